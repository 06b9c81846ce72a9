"""Runs in other programs: event files for TensorBoard, and export to MLflow. Imported only where they are asked for."""

from __future__ import annotations

from mindfl.tracking.measurements import hyperparameters, scalars

__all__ = ["hyperparameters", "scalars"]
