"""Which settings this server cannot honour yet. Reading them is no error: starting a server with them is."""

from __future__ import annotations

from mindfl.errors import OptionError
from mindfl.server.settings.sections import EMBEDDED, JobSettings

#: setting -> the values that a server can be started with
_SUPPORTED: dict[str, tuple[object, ...]] = {
    "server_mode": ("FEDERATED_LEARNING",),
    "distributed_cache.type": ("redis", EMBEDDED),
    "distributed_cache.plugin_lib_path": ("",),
    "client_verify.pki_verify": (False,),
    "aggregation.aggregation_type": ("FedAvg",),
}


def require_supported(settings: JobSettings) -> None:
    """Raise one :class:`OptionError` that names every setting with a value that is not supported yet."""
    found = []
    for key, supported in _SUPPORTED.items():
        value: object = settings
        for name in key.split("."):
            value = getattr(value, name)
        if value not in supported:
            usable = " or ".join(repr(item) for item in supported)
            found.append(f"{settings.origin.place(key)}: {key} {value} is not yet supported, only {usable}")
    if found:
        raise OptionError("; ".join(found))
