"""Experiments in one file: one run, or many side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mindfl.imports import lazy_names

if TYPE_CHECKING:
    from mindfl.sweeps.experiment import ExperimentPlan, PlannedRun, read_experiment
    from mindfl.sweeps.sweep import SweepResult, run_sweep

_HOMES = {
    "ExperimentPlan": "mindfl.sweeps.experiment",
    "PlannedRun": "mindfl.sweeps.experiment",
    "SweepResult": "mindfl.sweeps.sweep",
    "read_experiment": "mindfl.sweeps.experiment",
    "run_sweep": "mindfl.sweeps.sweep",
}

__all__ = ["ExperimentPlan", "PlannedRun", "SweepResult", "read_experiment", "run_sweep"]

__getattr__ = lazy_names(__name__, _HOMES)
