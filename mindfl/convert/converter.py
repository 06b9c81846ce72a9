"""Converts an exported MINDIR to an on-device training model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mindfl.convert.adam_weight_decay import with_adam_weight_decay
from mindfl.convert.graph_editor import GraphEditor, node_label
from mindfl.convert.mindir import Proto, optimizer_states, other_optimizer, read_mindir
from mindfl.convert.programs import Backend, find_backend, unknown_operator
from mindfl.convert.rewrite import refuse_control_flow, rewrite
from mindfl.convert.verify import verify
from mindfl.errors import ConvertError, MindirError, ModelFormatError, OptionError, StorageError
from mindfl.files import PathLike, make_dir, scratch_folder, write_atomic
from mindfl.lite.model import LiteModel
from mindfl.notices import warn
from mindfl.options import declared_arguments
from mindfl.options.command_options import ConvertOptions

_SUFFIX = ".ms"


@dataclass(frozen=True)
class ConvertResult:
    """Result of a conversion: the file, the back end, whether the MINDIR was rewritten first, the converter's log, and
    the decoded and verified model."""

    path: Path
    backend: str
    rewritten: bool
    log: str = field(repr=False)
    model: LiteModel = field(repr=False)


@declared_arguments(ConvertOptions)
def convert_model(
    mindir_path: PathLike, output_path: PathLike, *, converter: PathLike | None = None, train: bool = True
) -> ConvertResult:
    """Convert ``mindir_path`` to ``output_path`` with a real MindSpore Lite converter, and verify the result.

    Args:
        mindir_path: MINDIR of version 1 to 3; with ``train`` it must hold an optimizer.
        output_path: target; ``.ms`` is appended if missing, folders are created, an existing file is replaced.
        converter: ``converter_lite``, its folder, or the unpacked MindSpore Lite tarball. Default: the one on PATH,
            else the library of the ``mindspore-lite==2.0.0`` wheel, which is fetched on first use.
        train: make a training model (False: a model for inference).

    Returns:
        The verified result. The image input of the ``.ms`` is NHWC, convolutions are KHWC. A
        :class:`~mindfl.errors.MindflWarning` says what of the model mindfl's runtime lacks.

    Raises:
        MindirError: the MINDIR is missing, damaged, not a training graph, or holds something unsupported.
        ConverterMissingError: there is no converter; FetchError: it could not be downloaded.
        ConverterCrashedError, ConvertError: the converter was killed, hung, or refused the model.
        VerificationError: its result is not the model that went in.
        StorageError: the output cannot be written; nothing is left of it.

    Example:
        >>> convert_model("lenet_train.mindir", "own.ms").path
        PosixPath('own.ms')
    """
    target = _with_suffix(output_path)
    source = read_mindir(mindir_path)
    if train and not optimizer_states(source):
        refuse_control_flow(source)
        if (other := other_optimizer(source)) is not None:
            raise MindirError(
                f"{mindir_path} trains with the operator {other[0]} (node {other[1]}), which devices do not have",
                hint="train with nn.Momentum, nn.SGD, nn.Adam or nn.AdamWeightDecay",
            )
        raise MindirError(
            f"{mindir_path} contains no optimizer, so it cannot train",
            hint="export the TrainOneStepCell, or convert with --trainModel=false",
        )
    backend = find_backend(converter)
    make_dir(target.parent)
    failures: list[ConvertError] = []
    for rewritten, model in _variants(source, backend, failures):
        log = ""
        try:
            content, log = _attempt(backend, model, train)
            content = with_adam_weight_decay(content, source)
            result = ConvertResult(target, backend.name, rewritten, log, verify(content, source, train=train))
        except ConvertError as error:
            error.log = error.log or log
            failures.append(_naming_the_node(error, model))
            continue
        write_atomic(target, content)
        _warn_of_limits(result, train)
        return result
    raise failures[-1]


def _naming_the_node(error: ConvertError, model: Proto) -> ConvertError:
    """Return an error that also names the node, where the converter's log names an operator alone."""
    operator = unknown_operator(error.log)
    editor = GraphEditor(model)
    node = next(editor.nodes(operator), None) if operator is not None else None
    if node is None or node_label(node) in str(error):
        return error
    what = f"the converter does not know the operator {operator} (node {node_label(node)})"
    return type(error)(f"{what}: {error}", hint=error.hint, log=error.log)


def _warn_of_limits(result: ConvertResult, train: bool) -> None:
    from mindfl.lite.executable import Executable

    try:
        result.model.check_operators()
        Executable(result.model).programs(folded=False)
    except ModelFormatError as limit:
        warn(f"{result.path} is converted, but mindfl cannot execute it: {limit}")
    if train and (changed := _changed_beside_weights(result.model)):
        warn(
            f"{result.path.name}: training changes {', '.join(sorted(changed))}, which no optimizer trains: clients do"
            " not exchange it, and where the network evaluates otherwise than it trains, the file does not: it"
            " evaluates a batch as it trains it (nn.BatchNorm1d and nn.BatchNorm2d keep statistics that are averaged)"
        )
    if train and not result.model.loss_nodes:
        warn(
            f"{result.path} is converted, but MindSpore Lite's own trainer finds no loss in it:"
            " it knows a loss by the name of the cell's attribute, which should be _loss_fn or loss_fct"
        )


def _changed_beside_weights(model: LiteModel) -> set[str]:
    """Return the names of the arrays that the graph assigns to, but for those of the optimizer, as Adam's powers."""
    of_optimizer = {index for node in model.optimizer_nodes for index in node.inputs}
    changes = [node for node in model.nodes if node.op == "Assign" and not of_optimizer.intersection(node.inputs)]
    return {model.tensors[node.inputs[0]].name for node in changes}


def _with_suffix(path: PathLike) -> Path:
    target = Path(path)
    if target.name and not target.name.endswith(_SUFFIX):
        target = target.with_name(target.name + _SUFFIX)
    if not target.name or target.is_dir():
        raise OptionError(f"{str(target)!r} does not name an output file", hint="such as ms/net")
    return target


def _variants(source: Proto, backend: Backend, failures: list[ConvertError]) -> Iterator[tuple[bool, Proto]]:
    """Yield the MINDIRs to try: as exported, if the converter may be new enough, rewritten, and with images apart."""
    if backend.takes_any_version:
        yield False, source
    try:
        model = rewrite(source)
    except MindirError as error:
        failures.append(error)
        return
    if model is not source or not backend.takes_any_version:
        yield model is not source, model
    if model is source:
        return
    try:
        other = rewrite(source, apart=True)
    except MindirError:  # the failure of the first attempt is told
        return
    if other != model:
        yield True, other


def _attempt(backend: Backend, model: Proto, train: bool) -> tuple[bytes, str]:
    # In a temporary folder, as converters fail on paths with spaces or other letters and leave read-only files.
    try:
        with scratch_folder("mindfl-convert") as folder:
            Path(folder, "model.mindir").write_bytes(model.SerializeToString())
            log = backend.run(folder, train)
            return Path(folder, "model.ms").read_bytes(), log
    except OSError as error:
        raise StorageError.from_os_error(error, "use the temporary folder", tempfile.gettempdir()) from None
