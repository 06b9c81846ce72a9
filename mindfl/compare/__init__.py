"""Comparison of runs: tables and figures over work folders, sweep folders and results."""

from mindfl.compare.compared_runs import ComparedRun
from mindfl.compare.comparison import Comparison, compare_runs
from mindfl.compare.run_groups import RunGroup

__all__ = ["ComparedRun", "Comparison", "RunGroup", "compare_runs"]
