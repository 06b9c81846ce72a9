"""Export of training graphs with MindSpore."""

from __future__ import annotations

from mindfl.export.exporter import ExportResult, export_mindir
from mindfl.export.losses import LOSSES
from mindfl.export.optimizers import OPTIMIZERS

__all__ = ["LOSSES", "OPTIMIZERS", "ExportResult", "export_mindir"]
