"""Options whose meaning a model file of the user's own fixes: taken from it, or refused where they contradict it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from mindfl.errors import MindflError, OptionError
from mindfl.files import file_digest
from mindfl.lite import LiteModel
from mindfl.lite.model_graph import label_kind
from mindfl.lite.ops.optimizer import ModelOptimizer, optimizer_of
from mindfl.models import model_spec
from mindfl.modes import mode_of
from mindfl.sim.config import LEARNING_RATES, JobConfig, Network
from mindfl.sim.network_model import CHECKPOINT
from mindfl.sim.trainers import batch_of

#: optimizer node of MindSpore's graphs -> the option's value
_GRAPH_OPTIMIZERS = {
    "Adam": "adam",
    "AdamWeightDecay": "adam_weight_decay",
    "ApplyMomentum": "momentum",
    "SGD": "sgd",
}


def own_model(config: JobConfig) -> Path | None:
    """Return the model file of the user's own that the job starts from; None where mindfl makes one."""
    if config.origin_train_model_path is not None:
        return config.origin_train_model_path
    path, first = config.models / f"{config.model_name}.ms", config.client_model(0)
    if path.exists():
        return None if recorded_hash(path) == file_digest(path) else path
    return first if config.train_model_path is not None and first.exists() else None


def settled(config: JobConfig) -> tuple[JobConfig, list[str]]:
    """Return ``config`` with what was left to a model file, and a line for each setting that has no effect on it.

    Without a file of the user's own these are the defaults. Raises :class:`OptionError` for what contradicts the file;
    a file that cannot be read is left to what needs it.
    """
    path = own_model(config)
    if path is None and _trains_unconverted(config):
        second = config.origin_infer_model_path
        if second is not None and second.suffix != CHECKPOINT:
            raise OptionError(
                f"origin_infer_model_path {second} is no {CHECKPOINT} file, which --engine mindspore writes",
                hint="leave it out",
            )
        return _with_defaults(config, own_graph=False).derived(model_suffix=CHECKPOINT), list(_unconverted(config))
    if path is None:
        decided = _graph_decisions(config)
        return _with_defaults(replace(config, **decided), own_graph=bool(decided)), []
    _refuse_two_beginnings(config, path)
    try:
        model = LiteModel.load(path)
        optimizer, _ = optimizer_of(model), model.parameters
    except MindflError:
        return config, []
    check_settings(model, config, path)
    return replace(config, **_decided(model, optimizer, config)), list(_without_effect(config, path, model, optimizer))


def _trains_unconverted(config: JobConfig) -> bool:
    """Return whether MindSpore trains the network as it is. Earlier versions of mindfl converted it here too, and a
    run of theirs goes on as it began."""
    if config.client_side.engine.executes_files or not config.client_side.simulated:
        return False
    from mindfl.sim.run_record import NAME, RunRecord

    record = config.work_dir / NAME
    began = config.resume and record.exists() and str(RunRecord.load(record).model["path"])
    return not began or Path(began).suffix == CHECKPOINT


def _unconverted(config: JobConfig) -> Iterator[str]:
    for name in ("converter", "input_shape"):
        if getattr(config, name) is not None:
            yield f"--{name} has no effect with --engine mindspore: the network is trained as it is, unconverted"


def check_settings(model: LiteModel, config: JobConfig, path: Path) -> None:
    """Raise :class:`OptionError` where a setting contradicts the model file ``path``."""
    optimizer = optimizer_of(model)
    for name, value, found in _decisions(model, config, optimizer):
        if value is not None and found is not None and value != found:
            raise OptionError(
                f"--{name} is {value}, but {path} was exported for {found}",
                hint=f"use --{name} {found}",
            )
    if config.loss in ("sparse", "onehot") and label_kind(model) == "targets":
        raise OptionError(
            f"--loss is {config.loss}, but {path} is a regression, whose labels are no classes",
            hint="leave --loss out: the loss is in the file",
        )
    if config.loss is None and label_kind(model) == "targets" and not config.client_side.engine.executes_files:
        raise OptionError(
            f"--engine mindspore trains with a loss of its own, and {path}, a regression, does not tell which",
            hint="give --loss mse or --loss bce",
        )
    if config.model is not None:
        spec = model_spec(config.model)
        if spec.parameters and spec.parameters != model.parameters.keys():
            raise OptionError(
                f"--model is {spec.name}, but {path} holds another network, with {', '.join(model.parameters)}",
                hint="leave it out: the network is in the file",
            )
    if (
        not config.client_side.engine.executes_files
        and optimizer is not None
        and (extra := _beyond_mindspore(optimizer))
    ):
        raise OptionError(
            f"--engine mindspore cannot train as {path} does: its optimizer has {extra}",
            hint="--engine lite executes the file as it is",
        )


def check_input_shape(model: LiteModel, asked: str | None) -> None:
    """Raise :class:`OptionError` where ``asked``, as ``32,32,32,3;32``, is not what ``model`` takes."""
    shapes = ";".join(",".join(map(str, model.tensors[index].dims)) for index in model.inputs)
    if asked not in (None, shapes):
        raise OptionError(
            f"--input_shape is {asked}, but the model file takes {shapes}",
            hint="leave it out, or correct it",
        )


def _loss(model: LiteModel) -> str | None:
    """Return the loss of ``model`` as the option names it; None for one that the file does not tell."""
    return {"onehot": "onehot", "classes": "sparse", "tokens": "sparse"}.get(label_kind(model) or "")


def recorded_hash(path: Path) -> object:
    """Return the SHA-256 that mindfl noted beside a file it made."""
    return read_note(path).get("sha256")


def read_note(path: Path) -> dict[str, Any]:
    """Return what mindfl noted beside a file it made; empty if there is no note that can be read."""
    try:
        note = json.loads(path.with_name(path.name + ".json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _refuse_two_beginnings(config: JobConfig, path: Path) -> None:
    if config.init_from is not None:
        raise OptionError(
            f"--init_from {config.init_from} and {path} both give the initial weights",
            hint="leave --init_from out, or let mindfl make the model in another folder",
        )


def _graph_decisions(config: JobConfig) -> dict[str, Any]:
    """Return what a MINDIR of the user's own, from which the model file is to be made, decides; empty without one."""
    path = config.models / f"{config.model_name}.mindir"
    try:
        if not path.exists() or recorded_hash(path) == file_digest(path):
            return {}
        from mindfl.convert.mindir import operators, read_mindir

        graph = read_mindir(path)
        names = {_GRAPH_OPTIMIZERS[name] for name in operators(graph).values() if name in _GRAPH_OPTIMIZERS}
        sizes = [tensor.dims[0] for value in graph.graph.input for tensor in value.tensor if len(tensor.dims) == 4]
    except MindflError:
        return {}
    _refuse_two_beginnings(config, path)
    found = {"optimizer": names.pop() if len(names) == 1 else None, "batch_size": sizes[0] if sizes else None}
    for name, value in found.items():
        if value is not None and getattr(config, name) not in (None, value):
            raise OptionError(
                f"--{name} is {getattr(config, name)}, but {path} was exported for {value}",
                hint=f"use --{name} {value}",
            )
    return {name: value for name, value in found.items() if value is not None}


def _with_defaults(config: JobConfig, *, own_graph: bool) -> JobConfig:
    network = config.network
    unused = set() if network.optimizer == "momentum" else {"momentum"}
    if own_graph and config.weight_decay is None:
        unused.add("weight_decay")
    if config.init_from is not None or model_spec(network.model).own is not None:
        unused.add("init")
    names = {item.name for item in fields(Network)} - unused
    return replace(config, **{name: getattr(network, name) for name in names})


def _decisions(
    model: LiteModel, config: JobConfig, optimizer: ModelOptimizer | None
) -> Iterator[tuple[str, object, object]]:
    """Yield option, value given, and value in the file; None if there is none."""
    yield "batch_size", config.batch_size, batch_of(model)
    yield "loss", config.loss, _loss(model)
    if optimizer is not None:
        yield "optimizer", config.optimizer, optimizer.name
        yield "momentum", config.momentum, optimizer.momentum
        yield "weight_decay", config.weight_decay, optimizer.weight_decay


def _decided(model: LiteModel, optimizer: ModelOptimizer | None, config: JobConfig) -> dict[str, Any]:
    trains_apart = not config.client_side.engine.executes_files and label_kind(model) == "targets"
    values: dict[str, Any] = {"batch_size": batch_of(model), "loss": config.loss if trains_apart else _loss(model)}
    if optimizer is not None:
        known = optimizer.name in LEARNING_RATES
        decay = None if math.isnan(optimizer.weight_decay) else optimizer.weight_decay
        values |= {"optimizer": optimizer.name if known else None, "momentum": optimizer.momentum}
        values["weight_decay"] = decay
    if config.model is None and model.parameters.keys() == model_spec(Network.model).parameters:
        values["model"] = Network.model
    return values


def _beyond_mindspore(optimizer: ModelOptimizer) -> str:
    """Return what the file's optimizer does and the MindSpore engine's would not; empty if there is nothing."""
    extras = {
        f"several forms, {optimizer.name}": optimizer.name not in LEARNING_RATES,
        "Nesterov momentum": optimizer.nesterov,
        "weight decay that differs from weight to weight": math.isnan(optimizer.weight_decay),
        f"momentum {optimizer.momentum}": optimizer.name == "sgd" and optimizer.momentum is not None,
    }
    return next((text for text, applies in extras.items() if applies), "")


def _without_effect(config: JobConfig, path: Path, model: LiteModel, optimizer: ModelOptimizer | None) -> Iterator[str]:
    if config.init is not None:
        yield f"--init {config.init} has no effect on {path}: the file holds the initial weights"
    if config.loss in ("mse", "bce") and config.client_side.engine.executes_files and label_kind(model) == "targets":
        yield f"--loss {config.loss} has no effect on {path}: the loss is in the file"
    if config.converter is not None:
        yield f"--converter {config.converter} has no effect on {path}: the file is converted already"
    if config.momentum is not None and optimizer is not None and optimizer.momentum is None:
        yield f"--momentum {config.momentum} has no effect on {path}: its optimizer, {optimizer.name}, has none"
    if (
        config.model is not None
        and config.client_side.engine.executes_files
        and not model_spec(config.model).parameters
    ):
        yield f"--model {config.network_name} has no effect on {path}: the network is in the file"
    if config.seed and _draws_nothing(config, model):
        yield f"--seed {config.seed} has no effect: model and data are given, and all clients take part"


def _draws_nothing(config: JobConfig, model: LiteModel) -> bool:
    mode = mode_of(config)
    dropout = any(node.op == "Dropout" for node in model.nodes)
    draws = mode.draws or mode.compresses or config.shuffle or dropout
    return config.train_dataset is not None and config.all_take_part and not draws
