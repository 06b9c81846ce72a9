"""Runs in other programs: event files for TensorBoard, and export to MLflow. Imported only where they are asked for."""

from __future__ import annotations

from mindfl.tracking.measurements import hyperparameters, scalars
from mindfl.tracking.mlflow_export import ExportedRun, export_to_mlflow

__all__ = ["ExportedRun", "export_to_mlflow", "hyperparameters", "scalars"]
