"""Export of training graphs with MindSpore, and of trained weights back to it."""

from __future__ import annotations

from mindfl.export.exporter import ExportResult, export_mindir
from mindfl.export.trained import WrittenWeights, export_trained

__all__ = ["ExportResult", "WrittenWeights", "export_mindir", "export_trained"]
