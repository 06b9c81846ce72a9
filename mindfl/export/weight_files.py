"""Weights in MindSpore's order: the formats of their files, and how they are put into a network."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import OptionError
from mindfl.files import PathLike
from mindfl.models import import_mindspore
from mindfl.options.command_options import WeightFormat
from mindfl.server.array_files import encode_safetensors
from mindfl.server.ckpt import encode_ckpt

Weights = Mapping[str, NDArray[np.float32]]


def _encode_npz(weights: Weights) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, value in weights.items():
            # An explicit ZipInfo has a fixed date, so that the same weights give the same bytes.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.ascontiguousarray(value, "<f4"), allow_pickle=False)
    return content.getvalue()


#: format -> encoder of weights
ARRAY_FORMATS: dict[str, Callable[[Weights], bytes]] = {
    "ckpt": encode_ckpt,
    "npz": _encode_npz,
    "safetensors": encode_safetensors,
}
#: formats that contain a network too
NETWORK_FORMATS = ("mindir", "onnx")
FORMATS = get_args(WeightFormat)


def target_format(path: PathLike, form: str | None) -> tuple[Path, str]:
    """Return the file to write, with a suffix, and its format: ``form`` if given, else from the suffix of ``path``.

    Raises :class:`OptionError` if both contradict each other, if neither names a format, or if ``path`` is not a file
    name.
    """
    target = Path(path)
    if not str(path) or not target.name or target.is_dir():
        raise OptionError(f"{str(path)!r} does not name a file to write", hint="such as lenet.ckpt")
    if form is not None and form not in FORMATS:
        raise OptionError(f"format must be one of {', '.join(FORMATS)}, got {form!r}")
    suffix = target.suffix.removeprefix(".")
    if suffix == "ms":
        raise OptionError(f"{target} would be a device's file: this writes MindSpore's", hint=", ".join(FORMATS))
    if suffix in FORMATS:
        if form not in (None, suffix):
            raise OptionError(f"{target} has the suffix of another format than {form}", hint=f"name it *.{form}")
        return target, suffix
    if form is None:
        raise OptionError(
            f"{target} has the suffix of no known format", hint=f"give a format: {', '.join(FORMATS)}, or such a suffix"
        )
    return target.with_name(f"{target.name}.{form}"), form


#: prefixes of the state of a parameter in MindSpore's optimizers: ``<prefix>.<name of the parameter>``
_STATES = (
    *("accum", "accum_update", "adam_m", "adam_v", "ax_", "exp_avg", "lamb_m", "lamb_v", "linear", "mean_grad"),
    *("mean_square", "moment", "moment1", "moment2", "moments", "prev", "stat", "step_size", "vhat"),
)
#: further entries of MindSpore's training checkpoints
_SCALARS = frozenset(
    {"beta1_power", "beta2_power", "current_iterator_step", "epoch_num", "global_step", "last_overflow_iterator_step"}
    | {"learning_rate", "loss_scale", "momentum", "scale_sense", "step_num", "weight_decay"}
)
_SHOWN = 5


def load_weights(network: Any, weights: Mapping[str, NDArray[np.float32]], source: str) -> None:
    """Set the parameters of ``network`` to ``weights``, which are in MindSpore's order; ``source`` names their file.

    Optimizer state in ``weights`` is ignored. Parameters that are not trained, such as batch normalisation statistics,
    keep their values if ``weights`` does not contain them.

    Raises :class:`OptionError` naming missing, unknown and misshapen weights; the network is then unchanged.
    """
    parameters = {parameter.name: parameter for parameter in network.get_parameters()}
    trained = {parameter.name for parameter in network.trainable_params()}
    given = {name: value for name, value in weights.items() if name in parameters or not _is_state(name, parameters)}
    misshapen = [
        f"{name} {value.shape}, not {tuple(parameters[name].shape)}"
        for name, value in sorted(given.items())
        if name in parameters and value.shape != tuple(parameters[name].shape)
    ]
    faults = {
        "missing": [name for name in sorted(trained) if name not in given],
        "unknown": [name for name in sorted(given) if name not in parameters],
        "of another shape": misshapen,
    }
    found = [f"{words}: {_listed(names)}" for words, names in faults.items() if names]
    if found:
        raise OptionError(
            f"{source} does not fit the network; {'; '.join(found)}",
            hint="its weights must be in MindSpore's order; `mindfl export --from` writes it" if misshapen else "",
        )
    tensor = import_mindspore().Tensor
    for name, value in given.items():
        parameters[name].set_data(tensor(np.array(value, np.float32)))


def _is_state(name: str, parameters: Mapping[str, Any]) -> bool:
    prefix, _, rest = name.partition(".")
    return name in _SCALARS or (prefix in _STATES and rest in parameters)


def _listed(names: Iterable[str]) -> str:
    shown = list(names)
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more
