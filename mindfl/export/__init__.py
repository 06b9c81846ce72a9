"""Export of training graphs with MindSpore."""

from __future__ import annotations

from mindfl.export.exporter import ExportResult, export_mindir
from mindfl.export.optimizers import OPTIMIZERS

__all__ = ["OPTIMIZERS", "ExportResult", "export_mindir"]
