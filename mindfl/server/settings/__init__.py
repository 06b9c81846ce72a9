"""Settings of a server: MindSpore Federated 0.1.0's own YAML file, options on top of it, and changes while it runs."""

from __future__ import annotations

from mindfl.server.settings.document import NoMappingError, SettingsError
from mindfl.server.settings.instance import apply_new_instance, query_instance
from mindfl.server.settings.job_settings import JobSettings, require_supported
from mindfl.server.settings.reader import read_settings, with_overrides, within_budget

__all__ = [
    "JobSettings",
    "NoMappingError",
    "SettingsError",
    "apply_new_instance",
    "query_instance",
    "read_settings",
    "require_supported",
    "with_overrides",
    "within_budget",
]
