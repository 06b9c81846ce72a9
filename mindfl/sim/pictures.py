"""Saving figures in the format that the file's name asks for."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mindfl.errors import OptionError
from mindfl.files import PathLike, atomic_path
from mindfl.spelling import did_you_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: suffix -> format, and what keeps the time of drawing out of the file
_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("png", {}),
    ".pdf": ("pdf", {"metadata": {"CreationDate": None}}),
    ".svg": ("svg", {"metadata": {"Date": None}}),
    ".eps": ("eps", {}),
    ".jpg": ("jpg", {}),
    ".jpeg": ("jpg", {}),
}


def check_picture(path: PathLike) -> str:
    """Return the suffix of a picture's ``path``; raise :class:`OptionError` where there is no such format."""
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        what = f"the suffix {suffix} of {path} is no picture format" if suffix else f"{str(path)!r} has no suffix"
        raise OptionError(what, hint=did_you_mean(suffix, _FORMATS))
    return suffix


def save_figure(figure: Figure, path: PathLike, *, dpi: int) -> None:
    """Write ``figure`` in the format of the suffix of ``path``. Raises :class:`StorageError` where that fails."""
    form, options = _FORMATS[check_picture(path)]
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a name in a script the font lacks
        figure.savefig(temporary, format=form, dpi=dpi, **options)
