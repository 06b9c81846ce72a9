"""RunComparison of runs: tables and figures over work folders, sweep folders and results."""

from mindfl.compare.compared_runs import ComparedRun
from mindfl.compare.comparison import RunComparison, compare_runs
from mindfl.compare.curves import plot_runs
from mindfl.compare.run_groups import RunGroup

__all__ = ["ComparedRun", "RunComparison", "RunGroup", "compare_runs", "plot_runs"]
