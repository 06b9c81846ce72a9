"""What all Java clients of a job have in common, jars among it: checked before the first of them is started."""

from __future__ import annotations

import os
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

from mindfl.errors import OptionError, StorageError
from mindfl.files import local_path
from mindfl.options.job import LENET_CLIENT
from mindfl.spelling import checked_arguments

TRAIN, INFERENCE, GET_MODEL = "train", "inference", "getModel"

_CHOICES = {
    "ssl_protocol": ("TLSv1.2", "TLSv1.3"),
    "deploy_env": ("x86",),
    "cpu_bind_mode": ("NOT_BINDING_CORE", "BIND_LARGE_CORE", "BIND_MIDDLE_CORE"),
    "server_mode": ("FEDERATED_LEARNING", "HYBRID_TRAINING"),
}
#: made absolute: each client has a folder of its own, where a relative path would lead elsewhere
_PATHS = ("jar_path", "case_jar_path", "lite_jar_path", "cert_path")
_SHAPES = re.compile(r"\d+(,\d+)*(;\d+(,\d+)*)*")


@checked_arguments
@dataclass(frozen=True, kw_only=True)
class JavaSettings:
    """How Java clients are started. Names, order and defaults are those of the tutorial's ``run_client_x86.py``.

    Args:
        jar_path: the federated learning jar (``--jarPath``).
        case_jar_path: the jar of the model script (``--case_jarPath``).
        lite_jar_path: MindSpore Lite's jar: with it clients are started as MindSpore Federated 0.1.0 does,
            without it as the tutorial does; see :func:`mindfl.real.java_device.launch_command`.
        fl_name: class of the model script (``--flName``).
        domain_name: URL of the server; inference needs none.
        task: ``train``, ``inference`` or ``getModel``; any other text is passed on, for the client to make of it what
            it can.
        path_regex, name_regex: regular expressions of what stands between paths, and between names of weights.
        ssl_protocol, cert_path, use_elb, server_num: how to reach the server; https needs the certificate.
        thread_num, cpu_bind_mode: of the device runtime inside the client.
        train_weight_name, infer_weight_name: names of weights, joined by what ``name_regex`` matches; None: all.
        server_mode, batch_size: as the server's; the client uses them in getModel and in inference.
        input_shape: as ``1,3,32,32;1``, for models whose inputs have no fixed shape; None: the model's own.
        heap: largest heap of one client, as ``-Xmx`` takes it. The reference gives each client 2 GiB from the start,
            which is 100 GiB for the tutorial's 50 clients; its LeNet client was seen to need about 70 MiB in all.
            Nothing of the limit is taken before it is needed.
        parallel: at most so many clients at once; None: all of them for training, where they wait for each other, else
            one per processor.
        java: the program, by name or path.
        jvm_options: further options of the virtual machine.

    Raises :class:`OptionError` naming the option that has no usable value.
    """

    jar_path: Path
    case_jar_path: Path
    lite_jar_path: Path | None = None
    fl_name: str = LENET_CLIENT
    domain_name: str | None = None
    task: str = TRAIN
    path_regex: str = ","
    name_regex: str = ","
    ssl_protocol: str = "TLSv1.2"
    deploy_env: str = "x86"
    cert_path: Path | None = None
    use_elb: bool = False
    server_num: int = 1
    thread_num: int = 1
    cpu_bind_mode: str = "NOT_BINDING_CORE"
    train_weight_name: str | None = None
    infer_weight_name: str | None = None
    server_mode: str = "FEDERATED_LEARNING"
    batch_size: int = 32
    input_shape: str | None = None
    heap: str = "256m"
    parallel: int | None = None
    java: str = "java"
    jvm_options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in _PATHS:
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, local_path(value).absolute())
        if os.sep in self.java:
            object.__setattr__(self, "java", str(local_path(self.java).absolute()))
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise OptionError(f"--{name} must be {' or '.join(choices)}, got {getattr(self, name)!r}")
        for name in ("server_num", "thread_num", "batch_size", *(["parallel"] if self.parallel is not None else [])):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise OptionError(f"--{name} must be a whole number of at least 1, got {value!r}")
        for option, text in (("flName", self.fl_name), ("task", self.task), ("java", self.java)):
            if not text.strip():
                raise OptionError(f"--{option} is empty")
        for option, expression in (("path_regex", self.path_regex), ("name_regex", self.name_regex)):
            literal_separator(expression, option)
        if not re.fullmatch(r"[1-9]\d*[kKmMgG]?", self.heap):
            raise OptionError(f"--heap must be a size such as 256m or 2g, got {self.heap!r}")
        if self.input_shape is not None and not _SHAPES.fullmatch(self.input_shape):
            raise OptionError(f"--input_shape must be as 1,3,32,32;1, got {self.input_shape!r}")
        self._check_server()

    def _check_server(self) -> None:
        if self.domain_name is None:
            if self.task in (TRAIN, GET_MODEL):
                raise OptionError(f"task {self.task} needs a server", hint="--domain_name http://HOST:PORT")
            return
        from mindfl.client.http_transport import HttpSettings

        HttpSettings(url=self.domain_name, use_elb=self.use_elb, server_num=self.server_num)
        if self.domain_name.startswith("https:") and self.cert_path is None:
            raise OptionError("--domain_name is https, so --cert_path is needed", hint="the authority's certificate")


def literal_separator(expression: str, option: str) -> str:
    """Return a text that the regular expression splits at, to join with: ``|`` for ``\\|``.

    Raises :class:`OptionError` naming ``option`` where the expression is broken, or none is found.
    """
    try:
        for text in (expression, re.sub(r"\\(.)", r"\1", expression)):
            if text and re.split(expression, f"a{text}b") == ["a", "b"]:
                return text
    except re.error as error:
        raise OptionError(f"--{option} {expression!r} is no regular expression: {error}") from None
    raise OptionError(
        f"--{option} {expression!r} does not say what stands between two items", hint=r"such as , or ; or \|"
    )


MAIN_CLASS = "com.mindspore.flclient.SyncFLJob"
_MANIFEST = "META-INF/MANIFEST.MF"


def check_jars(settings: JavaSettings) -> None:
    """Raise :class:`OptionError` or :class:`StorageError` naming the jar that cannot be used, and why.

    Without MindSpore Lite's jar the folders become Java's module path: as the tutorial demands, ``jarPath`` and
    ``case_jarPath`` must then be the only jars in their folders.
    """
    jars = {"jarPath": settings.jar_path, "case_jarPath": settings.case_jar_path}
    if settings.lite_jar_path is not None:
        jars["lite_jar_path"] = settings.lite_jar_path
    contents = {option: _contents(jar, option) for option, jar in jars.items()}
    if settings.lite_jar_path is None:
        for option, jar in jars.items():
            _check_alone(jar, option)
        _check_main_class(settings.jar_path, contents["jarPath"])
    elif not any(f"{MAIN_CLASS.replace('.', '/')}.class" in names for names in contents.values()):
        raise OptionError(
            f"--jarPath {settings.jar_path} does not hold {MAIN_CLASS}", hint="is that the federated learning jar?"
        )


def _check_main_class(jar: Path, names: frozenset[str]) -> None:
    if _MANIFEST not in names or b"Main-Class:" not in _member(jar, _MANIFEST):
        raise OptionError(
            f"--jarPath {jar} names no main class in its manifest, so java -jar cannot start it",
            hint="is that the federated learning jar? One of MindSpore Federated 0.1.0 needs --lite_jar_path too",
        )


def _contents(jar: Path, option: str) -> frozenset[str]:
    try:
        if not jar.is_file():
            what = "is a folder" if jar.is_dir() else "does not exist"
            raise OptionError(f"--{option} {jar} {what}", hint="build the jar, or correct the path")
        with zipfile.ZipFile(jar) as archive:
            return frozenset(archive.namelist())
    except OSError as error:
        raise StorageError.from_os_error(error, "read", jar) from None
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        raise OptionError(f"--{option} {jar} is not a jar (or a damaged one)", hint="build or copy it again") from None


def _member(jar: Path, name: str) -> bytes:
    try:
        with zipfile.ZipFile(jar) as archive, archive.open(name) as file:
            return file.read(2**20)
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError, EOFError):
        raise OptionError(f"--jarPath {jar} is a damaged jar: its manifest cannot be read") from None


def _check_alone(jar: Path, option: str) -> None:
    try:
        others = sorted(path.name for path in jar.parent.iterdir() if path.suffix == ".jar" and path.name != jar.name)
    except OSError as error:
        raise StorageError.from_os_error(error, "read", jar.parent) from None
    if others:
        raise OptionError(
            f"--{option}: the folder {jar.parent} must hold only {jar.name}, but it also holds {others[0]}",
            hint="give each jar a folder of its own",
        )
