"""As many iterations as a privacy budget pays for."""

from __future__ import annotations

from collections.abc import Callable

from mindfl.errors import OptionError
from mindfl.modes import PRIVATE
from mindfl.privacy import PrivacyBudget
from mindfl.privacy.accountant import affordable_iterations
from mindfl.server.settings.reader import with_overrides
from mindfl.server.settings.sections import JobSettings


def within_budget(settings: JobSettings, dp_budget: float, tell: Callable[[str], None]) -> JobSettings:
    """Return ``settings`` with so few iterations that a device which is in all of them spends ``dp_budget`` at most.

    ``tell`` is given a warning where these are fewer than before. Raises :class:`OptionError` where there would be
    none, or where nothing in the job is private.
    """
    found = settings.server_config().mode.accountant()
    if found is None:
        raise OptionError(
            f"dp_budget is given, but encrypt_type is {settings.encrypt.encrypt_type}",
            hint=f"only {' and '.join(PRIVATE)} say what an iteration costs",
        )
    asked = settings.fl_iteration_num
    count = affordable_iterations(PrivacyBudget(found, stop_at=dp_budget), asked)
    if count == asked:
        return settings
    tell(f"warning: the privacy budget of {dp_budget:g} pays for {count} of {asked} iterations")
    return with_overrides(settings, {"fl_iteration_num": count}, place="--dp_budget")
