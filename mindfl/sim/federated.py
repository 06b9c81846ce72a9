"""The place of :mod:`mindfl.real` in the first release, for scripts that import the server from here."""

from mindfl.imports import lazy_names

_NAMES = ("FederatedConfig", "FederatedServer", "FederatedState", "TlsFiles", "install")

__getattr__ = lazy_names(__name__, dict.fromkeys(_NAMES, "mindfl.real"))
