"""One Java client: its command line, its folder, its log, and how it ended."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mindfl.errors import OptionError, StorageError
from mindfl.real.java_files import JavaClientFiles
from mindfl.real.java_judgement import State, Verdict
from mindfl.real.java_log import JavaLog
from mindfl.real.java_settings import GET_MODEL, INFERENCE, MAIN_CLASS, TRAIN, JavaSettings, literal_separator
from mindfl.real.process_registry import StartedProcess

NULL = "null"
"""What stands for an argument that is not given."""


def launch_command(settings: JavaSettings, client: JavaClientFiles) -> list[str]:
    """Return the program and its arguments, in one of two forms:

    - the tutorial's: ``java --module-path=<folders of both jars> --add-modules=ALL-MODULE-PATH -jar <jarPath>
      <arguments>``;
    - that of MindSpore Federated 0.1.0, where its third jar is given:
      ``java -cp <jars> com.mindspore.flclient.SyncFLJob <arguments>``.

    Options of the virtual machine come first. Raises :class:`OptionError` for what the client would stumble over.
    """
    options = [settings.java, f"-Xmx{settings.heap}", *settings.jvm_options]
    jars = [settings.jar_path, settings.case_jar_path]
    if settings.lite_jar_path is None:
        folders = _path_list([jar.parent for jar in jars])
        # Java looks for a class on the module path only in modules that it was told to add.
        launch = [f"--module-path={folders}", "--add-modules=ALL-MODULE-PATH", "-jar", str(settings.jar_path)]
    else:
        launch = ["-cp", _path_list([*jars, settings.lite_jar_path]), MAIN_CLASS]
    command = [*options, *launch, *client_arguments(settings, client)]
    for word in command:
        if not word or "\0" in word:
            raise OptionError(
                f"Java cannot be given {word!r} as an argument", hint=f"see client {client.name}'s options"
            )
    return command


def client_arguments(settings: JavaSettings, client: JavaClientFiles) -> list[str]:
    """Return the 22 arguments of ``SyncFLJob`` in MindSpore Federated 0.1.0."""
    _check_files(settings, client)
    infer_model = client.infer_model or client.train_model
    return [
        _joined(client.train_data, settings.path_regex, "train_dataset"),
        _joined(client.eval_data, settings.path_regex, "test_dataset"),
        _joined(client.infer_data, settings.path_regex, "test_dataset"),
        settings.path_regex,
        settings.fl_name,
        str(client.train_model),
        str(infer_model),
        settings.ssl_protocol,
        settings.deploy_env,
        # The client adds a slash and the request's name: a slash of the user's own would make it two.
        settings.domain_name.rstrip("/") if settings.domain_name else NULL,
        str(settings.cert_path) if settings.cert_path else NULL,
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
    """Raise :class:`OptionError` where the client would end with an exception of Java's, or do nothing at all."""
    for path, option in ((client.train_model, "train_model_path"), (client.infer_model, "infer_model_path")):
        if path is not None and not path.is_file():
            raise OptionError(f"--{option}: there is no model file {path}", hint="each client needs one of its own")
    data = {"train_dataset": client.train_data, "test_dataset": (*client.eval_data, *client.infer_data)}
    for option, path in ((option, path) for option, paths in data.items() for path in paths):
        if not path.is_file():
            raise OptionError(f"--{option}: there is no file {path} of client {client.name}")
    if settings.task == TRAIN and not client.train_data:
        raise OptionError(f"client {client.name} has no training data", hint="--train_dataset FOLDER")
    if settings.task == INFERENCE and not client.infer_data:
        raise OptionError(f"client {client.name} has no data to infer", hint="--test_dataset FOLDER")
    two_models = client.infer_model not in (None, client.train_model)
    if two_models and settings.task in (TRAIN, GET_MODEL):
        for option in ("train_weight_name", "infer_weight_name"):
            if not getattr(settings, option):
                raise OptionError(
                    f"--infer_model_path differs from --train_model_path, so --{option} is needed",
                    hint="name the weights of that model",
                )
    if settings.cert_path is not None and not settings.cert_path.is_file():
        raise OptionError(f"--cert_path: there is no file {settings.cert_path}")


def _joined(paths: Sequence[Path], expression: str, option: str) -> str:
    separator = literal_separator(expression, "path_regex")
    for path in paths:
        if len(re.split(expression, str(path))) != 1:
            raise OptionError(
                f"--{option}: the path {path} holds what separates paths, --path_regex {expression!r}",
                hint="choose another --path_regex, or rename it",
            )
    return separator.join(map(str, paths)) or NULL


def _path_list(paths: Sequence[Path]) -> str:
    for path in paths:
        if os.pathsep in str(path):
            raise OptionError(f"Java cannot use the path {path}: it holds {os.pathsep!r}", hint="rename the folder")
    return os.pathsep.join(map(str, paths))


_PIECE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class JavaOutcome:
    """How client ``index``, ``name``, ended.

    ``state`` is ``succeeded``, ``left_out`` (the server never took it into its last iteration, and it said so) or
    ``failed``; ``cause`` says why it did not succeed. ``iteration`` is the last one it was in, 0: none; ``iterations``
    are those it completed. ``labels`` are what inference predicted, None where the log does not tell. ``log`` is its
    log file.
    """

    index: int
    name: str
    state: State
    exit_code: int
    cause: str
    iteration: int
    iterations: tuple[int, ...]
    labels: tuple[int, ...] | None
    log: Path

    @property
    def succeeded(self) -> bool:
        """Whether it did what it was started for."""
        return self.state == "succeeded"


class Client:
    """One client and what is known of it."""

    def __init__(self, index: int, files: JavaClientFiles, folder: Path, command: list[str]) -> None:
        self.index = index
        self.files = files
        self.folder = folder
        self.command = command
        self.log_file = folder / "client.log"
        self.log = JavaLog()
        self.process: StartedProcess | None = None
        self.outcome: JavaOutcome | None = None
        self.told: set[int] = set()  # the iterations whose upload was reported
        self._position = 0

    def afresh(self) -> Client:
        """Return the client as it was before it ran."""
        return Client(self.index, self.files, self.folder, self.command)

    def follow(self) -> None:
        """Read what the log gained."""
        try:
            with self.log_file.open("rb") as file:
                file.seek(self._position)
                while piece := file.read(_PIECE):
                    self._position += len(piece)
                    self.log.feed(piece)
        except OSError as error:
            raise StorageError.from_os_error(error, "read", self.log_file) from None

    def end(self, exit_code: int, verdict: Verdict) -> JavaOutcome:
        """Note how the process ended."""
        self.outcome = JavaOutcome(
            index=self.index,
            name=self.files.name,
            state=verdict.state,
            exit_code=exit_code,
            cause=verdict.cause,
            iteration=self.log.current.number or self.log.last_total,
            iterations=tuple(sorted(self.log.completed)),
            labels=self.log.labels,
            log=self.log_file,
        )
        return self.outcome
