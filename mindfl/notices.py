"""Warnings and messages of the Python interface: ``warnings`` for what needs attention, ``logging`` for progress."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from pathlib import Path

from mindfl.errors import MindflWarning

#: gets what a command would print as progress, at level INFO
logger = logging.getLogger("mindfl")
#: what functions that report lines of text put before a warning
WARNING = "warning: "
#: files whose frames are not the caller's
_LIBRARY = (str(Path(__file__).parent), contextlib.__file__)


def warn(text: str) -> None:
    """Emit a :class:`MindflWarning` that names the line which called mindfl."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_LIBRARY):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, MindflWarning, stacklevel=level)


def announce(text: str) -> None:
    """Warn of a line of text that begins with "warning: ", and log any other."""
    if text.startswith(WARNING):
        warn(text.removeprefix(WARNING))
    else:
        logger.info("%s", text)
