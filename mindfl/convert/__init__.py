"""Conversion of MINDIR files into MindSpore Lite training models with a real converter."""

from __future__ import annotations

from mindfl.convert.contents import inspect_model
from mindfl.convert.converter import ConvertResult, convert_model
from mindfl.convert.library import fetch_library
from mindfl.convert.programs import installed_backend

__all__ = ["ConvertResult", "convert_model", "fetch_library", "inspect_model", "installed_backend"]
