"""Files of weights in MindSpore's order: which formats there are, and those that hold arrays alone."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import OptionError
from mindfl.files import PathLike
from mindfl.server.array_files import encode_safetensors
from mindfl.server.ckpt import encode_ckpt

Weights = Mapping[str, NDArray[np.float32]]


def _encode_npz(weights: Weights) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, value in weights.items():
            # A ZipInfo of one's own has no time of day: the same weights are the same bytes.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.ascontiguousarray(value, "<f4"), allow_pickle=False)
    return content.getvalue()


#: format -> weights to the bytes of a file
ARRAY_FORMATS: dict[str, Callable[[Weights], bytes]] = {
    "ckpt": encode_ckpt,
    "npz": _encode_npz,
    "safetensors": encode_safetensors,
}
#: formats that hold a network too
NETWORK_FORMATS = ("mindir", "onnx")
FORMATS = (*ARRAY_FORMATS, *NETWORK_FORMATS)


def target_format(path: PathLike, form: str | None) -> tuple[Path, str]:
    """Return the file to write, with a suffix, and its format: ``form``, else what the suffix of ``path`` says.

    Raises :class:`OptionError` where they contradict each other, where neither names a format, and where ``path`` names
    no file.
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
