"""How the Java clients of a job are started: one value for all of them, declared by the job's options."""

from __future__ import annotations

import os
import re
from dataclasses import MISSING, dataclass
from functools import partial
from pathlib import Path

from mindfl.errors import OptionError
from mindfl.files import local_path
from mindfl.options import check_options
from mindfl.options.declaration import same_option
from mindfl.options.job_options import JobOptions
from mindfl.spelling import checked_arguments

TRAIN, INFERENCE, GET_MODEL = "train", "inference", "getModel"

_of_job = partial(same_option, JobOptions)
_PATHS = ("jar_path", "case_jar_path", "lite_jar_path", "cert_path")


@checked_arguments
@dataclass(frozen=True, kw_only=True)
class JavaSettings:
    """How Java clients are started; docs/options.md describes the options, which are the job's.

    Paths are made absolute, as each client runs in a folder of its own.

    Args:
        task: ``train``, ``inference`` or ``getModel``; any other text is passed to the client as it is.
        domain_name: URL of the server; inference needs none.
        lite_jar_path: with it clients are started as MindSpore Federated 0.1.0 does, without it as the tutorial does;
            see :func:`mindfl.real.java_command.launch_command`.
        heap: largest heap of one client, as ``-Xmx`` takes it. The reference gives each client 2 GiB from the start,
            which is 100 GiB for the tutorial's 50 clients; its LeNet client was seen to need about 70 MiB in all.
            The limit reserves no memory.
        parallel: largest number of clients that run at once; None: all of them for training, where they wait for each
            other, else one per processor.
        jvm_options: further options of the virtual machine.

    Raises:
        OptionError: an option has no usable value; the message names it.

    Example:
        >>> JavaSettings(jar_path="fl.jar", case_jar_path="case.jar", domain_name="http://127.0.0.1:6668").heap
        '256m'
    """

    jar_path: Path = _of_job("jar_path", default=MISSING)
    case_jar_path: Path = _of_job("case_jar_path", default=MISSING)
    lite_jar_path: Path | None = _of_job("lite_jar_path")
    fl_name: str = _of_job("fl_name")
    domain_name: str | None = _of_job("domain_name")
    task: str = TRAIN
    path_regex: str = _of_job("path_regex")
    name_regex: str = _of_job("name_regex")
    ssl_protocol: str = _of_job("ssl_protocol", default="TLSv1.2")
    deploy_env: str = _of_job("deploy_env", choices=("x86",))
    cert_path: Path | None = _of_job("cert_path")
    use_elb: bool = _of_job("use_elb")
    server_num: int = _of_job("server_num")
    thread_num: int = _of_job("thread_num")
    cpu_bind_mode: str = _of_job("cpu_bind_mode")
    train_weight_name: str | None = _of_job("train_weight_name")
    infer_weight_name: str | None = _of_job("infer_weight_name")
    server_mode: str = _of_job("server_mode")
    batch_size: int = _of_job("batch_size", default=32)
    input_shape: str | None = _of_job("input_shape")
    heap: str = _of_job("heap")
    parallel: int | None = _of_job("parallel")
    java: str = _of_job("java")
    jvm_options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_options(self)
        for name in _PATHS:
            if (path := getattr(self, name)) is not None:
                object.__setattr__(self, name, path.absolute())
        if os.sep in self.java:
            object.__setattr__(self, "java", str(local_path(self.java).absolute()))
        for name in ("fl_name", "task", "java"):
            if not getattr(self, name).strip():
                raise OptionError(f"--{name} is empty")
        for name in ("path_regex", "name_regex"):
            literal_separator(getattr(self, name), name)
        self._check_server()

    def _check_server(self) -> None:
        if self.domain_name is None:
            if self.task in (TRAIN, GET_MODEL):
                raise OptionError(f"task {self.task} needs a server", hint="--domain_name http://HOST:PORT")
            return
        from mindfl.client import HttpSettings

        HttpSettings(url=self.domain_name, use_elb=self.use_elb, server_num=self.server_num)
        if self.domain_name.startswith("https:") and self.cert_path is None:
            raise OptionError("--domain_name is https, so --cert_path is needed", hint="the authority's certificate")


def literal_separator(expression: str, option: str) -> str:
    r"""Return a text that the regular expression splits at, for joining.

    Raises:
        OptionError: the expression is invalid, or no such text is found; the message names ``option``.

    Example:
        >>> literal_separator(r"\|", "path_regex")
        '|'
    """
    try:
        for text in (expression, re.sub(r"\\(.)", r"\1", expression)):
            if text and re.split(expression, f"a{text}b") == ["a", "b"]:
                return text
    except re.error as error:
        raise OptionError(f"--{option} {expression!r} is no regular expression: {error}") from None
    raise OptionError(f"--{option} {expression!r} matches no fixed separator", hint=r"such as , or ; or \|")
