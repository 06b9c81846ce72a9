"""Certificates for one run of the real stack."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

from mindfl.sim.federated.config import TlsFiles

_ANY_HOST = "0.0.0.0"


def own_certificates(folder: Path, host: str) -> TlsFiles:
    """Make an authority and certificates for ``host`` and this machine in ``folder``; the password is drawn.

    Raises :class:`OptionError` without the package cryptography, :class:`StorageError`.
    """
    from mindfl.server.certificates import LOCAL_HOSTS, make_certificates

    password = secrets.token_hex(16)
    names = dict.fromkeys([*LOCAL_HOSTS, socket.gethostname() if host == _ANY_HOST else host])
    files = make_certificates(folder, list(names), password=password, force=True)
    return TlsFiles(
        server_p12=files.server_p12,
        client_p12=files.client_p12,
        ca_cert=files.ca_cert,
        server_password=password,
        client_password=password,
    )
