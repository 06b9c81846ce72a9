"""The command that starts a Java client, and the check of the jars, models and data that it names."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

from mindfl.errors import OptionError, StorageError
from mindfl.real.java_files import JavaClientFiles
from mindfl.real.java_settings import GET_MODEL, INFERENCE, TRAIN, JavaSettings, literal_separator

MAIN_CLASS = "com.mindspore.flclient.SyncFLJob"
NULL = "null"
"""Stands for an argument that is not given."""
_MANIFEST = "META-INF/MANIFEST.MF"
#: what a damaged archive raises
_DAMAGED = (zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError, EOFError)


def launch_command(settings: JavaSettings, client: JavaClientFiles) -> list[str]:
    """Return the program and its arguments, in one of two forms.

    - The tutorial's: ``java --module-path=<folders of both jars> --add-modules=ALL-MODULE-PATH -jar <jarPath>
      <arguments>``.
    - That of MindSpore Federated 0.1.0, where its third jar is given:
      ``java -cp <jars> com.mindspore.flclient.SyncFLJob <arguments>``.

    Options of the virtual machine come first.

    Raises:
        OptionError: a file is missing, or Java cannot be given one of the arguments.
    """
    jars = [settings.jar_path, settings.case_jar_path]
    if settings.lite_jar_path is None:
        folders = _path_list([jar.parent for jar in jars])
        # Java looks for a class on the module path only in modules that it was told to add.
        launch = [f"--module-path={folders}", "--add-modules=ALL-MODULE-PATH", "-jar", str(settings.jar_path)]
    else:
        launch = ["-cp", _path_list([*jars, settings.lite_jar_path]), MAIN_CLASS]
    machine = [settings.java, f"-Xmx{settings.heap}", *settings.jvm_options]
    command = [*machine, *launch, *_client_arguments(settings, client)]
    for word in command:
        if not word or "\0" in word:
            raise OptionError(f"Java cannot be given {word!r} as an argument", hint=f"check options of {client.name}")
    return command


def _client_arguments(settings: JavaSettings, client: JavaClientFiles) -> list[str]:
    """Return the 22 arguments of ``SyncFLJob`` in MindSpore Federated 0.1.0."""
    _check_files(settings, client)
    return [
        _joined(client.train_data, settings.path_regex, "train_dataset"),
        _joined(client.eval_data, settings.path_regex, "test_dataset"),
        _joined(client.infer_data, settings.path_regex, "test_dataset"),
        settings.path_regex,
        settings.fl_name,
        str(client.train_model),
        str(client.infer_model or client.train_model),
        settings.ssl_protocol,
        settings.deploy_env,
        # The client appends a slash and the name of the request.
        settings.domain_name.rstrip("/") if settings.domain_name else NULL,
        str(settings.cert_path or NULL),
        str(settings.use_elb).lower(),
        str(settings.server_num),
        settings.task,
        str(settings.thread_num),
        settings.cpu_bind_mode,
        settings.train_weight_name or NULL,
        settings.infer_weight_name or NULL,
        settings.name_regex,
        settings.server_mode,
        str(settings.batch_size),
        settings.input_shape or NULL,
    ]


def _check_files(settings: JavaSettings, client: JavaClientFiles) -> None:
    """Raise :class:`OptionError` where the client would end with an exception of Java's, or do nothing."""
    models = {"train_model_path": client.train_model, "infer_model_path": client.infer_model}
    for option, path in models.items():
        if path is not None and not path.is_file():
            raise OptionError(f"--{option}: there is no model file {path}", hint="each client needs one of its own")
    data = {"train_dataset": client.train_data, "test_dataset": (*client.eval_data, *client.infer_data)}
    for option, paths in data.items():
        for path in paths:
            if not path.is_file():
                raise OptionError(f"--{option}: there is no file {path} of client {client.name}")
    if settings.task == TRAIN and not client.train_data:
        raise OptionError(f"client {client.name} has no training data", hint="--train_dataset FOLDER")
    if settings.task == INFERENCE and not client.infer_data:
        raise OptionError(f"client {client.name} has no data for inference", hint="--test_dataset FOLDER")
    if client.infer_model not in (None, client.train_model) and settings.task in (TRAIN, GET_MODEL):
        for option in ("train_weight_name", "infer_weight_name"):
            if not getattr(settings, option):
                raise OptionError(
                    f"--infer_model_path differs from --train_model_path, so --{option} is needed",
                    hint="name the weights of that model",
                )
    if settings.cert_path is not None and not settings.cert_path.is_file():
        raise OptionError(f"--cert_path: there is no file {settings.cert_path}")


def _joined(paths: Sequence[Path], expression: str, option: str) -> str:
    for path in paths:
        if re.search(expression, str(path)):
            raise OptionError(
                f"--{option}: the path {path} contains the separator of paths, --path_regex {expression!r}",
                hint="choose another --path_regex, or rename the file",
            )
    return literal_separator(expression, "path_regex").join(map(str, paths)) or NULL


def _path_list(paths: Sequence[Path]) -> str:
    for path in paths:
        if os.pathsep in str(path):
            raise OptionError(f"Java cannot use the path {path}: it contains {os.pathsep!r}", hint="rename the folder")
    return os.pathsep.join(map(str, paths))


def check_jars(settings: JavaSettings) -> None:
    """Check the jars.

    Without MindSpore Lite's jar the folders become Java's module path: as the tutorial demands, ``jarPath`` and
    ``case_jarPath`` must then be the only jars in their folders.

    Raises:
        OptionError: a jar cannot be used; the message names it.
        StorageError: a jar cannot be read.
    """
    jars = {"jarPath": settings.jar_path, "case_jarPath": settings.case_jar_path}
    if settings.lite_jar_path is not None:
        jars["lite_jar_path"] = settings.lite_jar_path
    names = {option: _names(jar, option) for option, jar in jars.items()}
    if settings.lite_jar_path is not None:
        if not any(f"{MAIN_CLASS.replace('.', '/')}.class" in found for found in names.values()):
            raise OptionError(
                f"--jarPath {settings.jar_path} does not contain {MAIN_CLASS}",
                hint="is that the federated learning jar?",
            )
        return
    for option, jar in jars.items():
        _check_alone(jar, option)
    if _MANIFEST not in names["jarPath"] or b"Main-Class:" not in _manifest(settings.jar_path):
        raise OptionError(
            f"--jarPath {settings.jar_path} names no main class in its manifest, so java -jar cannot start it",
            hint="is that the federated learning jar? One of MindSpore Federated 0.1.0 needs --lite_jar_path too",
        )


def _names(jar: Path, option: str) -> frozenset[str]:
    try:
        if not jar.is_file():
            problem = "is a folder" if jar.is_dir() else "does not exist"
            raise OptionError(f"--{option} {jar} {problem}", hint="build the jar, or correct the path")
        with zipfile.ZipFile(jar) as archive:
            return frozenset(archive.namelist())
    except OSError as error:
        raise StorageError.from_os_error(error, "read", jar) from None
    except _DAMAGED:
        raise OptionError(f"--{option} {jar} is not a jar (or a damaged one)", hint="build or copy it again") from None


def _manifest(jar: Path) -> bytes:
    try:
        with zipfile.ZipFile(jar) as archive, archive.open(_MANIFEST) as file:
            return file.read(2**20)
    except (OSError, *_DAMAGED):
        raise OptionError(f"--jarPath {jar} is a damaged jar: its manifest cannot be read") from None


def _check_alone(jar: Path, option: str) -> None:
    try:
        others = sorted(path.name for path in jar.parent.iterdir() if path.suffix == ".jar" and path.name != jar.name)
    except OSError as error:
        raise StorageError.from_os_error(error, "read", jar.parent) from None
    if others:
        raise OptionError(
            f"--{option}: the folder {jar.parent} must contain only {jar.name}, but it also contains {others[0]}",
            hint="give each jar a folder of its own",
        )
