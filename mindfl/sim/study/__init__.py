"""The same job once per mode of :mod:`mindfl.privacy`: what each costs in accuracy, bytes and time."""

from mindfl.sim.study.report import FILES, summary
from mindfl.sim.study.results import MODES, Mode, ModeResult, Study, chosen_modes
from mindfl.sim.study.run import StudyReporter, run_study

__all__ = ["FILES", "MODES", "Mode", "ModeResult", "Study", "StudyReporter", "chosen_modes", "run_study", "summary"]
