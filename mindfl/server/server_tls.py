"""The server's side of TLS: its certificate, and the clients that it accepts.

TLS 1.2 and 1.3 only (RFC 8996). Reading certificates needs the package cryptography; the handshakes are those of
Python's ssl module.
"""

from __future__ import annotations

import secrets
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from mindfl.errors import OptionError, StorageError
from mindfl.files import PathLike, read_file, scratch_folder
from mindfl.options import options_of
from mindfl.options.server_options import SslOptions
from mindfl.server.http.tls_gate import AlertingContext
from mindfl.server.settings import JobSettings

if TYPE_CHECKING:
    from mindfl.server.identity import Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTls:
    """The certificate of a server, and the clients that it accepts.

    ``certificate``: PKCS#12, or PEM (its chain after it) with the key in the same file or in ``key``. ``password``: of
    the PKCS#12 or the key. ``ca_path`` (PEM): the authorities whose client certificates are accepted, used where
    ``require_client_certificate``. ``crl_path`` (PEM): certificates on it are refused, the server's own among them.
    ``cipher_list``: OpenSSL's names, for TLS 1.2 (the ciphers of TLS 1.3 are fixed). ``warning_days``: how long before
    its end the server's certificate is worth a warning.
    """

    certificate: PathLike
    key: PathLike | None = None
    password: str | None = None
    ca_path: PathLike | None = None
    crl_path: PathLike | None = None
    cipher_list: str = ""
    require_client_certificate: bool = False
    warning_days: int = options_of(SslOptions)["cert_expire_warning_time_in_day"].default

    @staticmethod
    def from_settings(settings: JobSettings, password: str | None) -> ServerTls | None:
        """Return the TLS of the ``ssl`` section, or None where ``enable_ssl`` is false.

        As with the reference, clients need no certificate, and the password of the PKCS#12 file is not in the YAML.
        """
        if not settings.enable_ssl:
            return None
        return ServerTls(
            certificate=settings.ssl.server_cert_path,
            password=password,
            ca_path=settings.ssl.ca_cert_path,
            crl_path=settings.ssl.crl_path or None,
            cipher_list=settings.ssl.cipher_list,
            warning_days=settings.ssl.cert_expire_warning_time_in_day,
        )


@dataclass(frozen=True, slots=True)
class LoadedTls:
    """``context`` for the server's sockets; ``warning``: one line if the certificate ends soon, else empty."""

    context: ssl.SSLContext
    warning: str


def load_tls(tls: ServerTls, now: datetime | None = None) -> LoadedTls:
    """Read and check the files, and return the context of the server's sockets.

    Raises :class:`StorageError` where a file cannot be read and :class:`OptionError` naming the file that cannot be
    used: no certificate or no key in it, a wrong password, a key of another certificate, not yet or no longer valid at
    ``now``, revoked, no usable cipher.
    """
    from mindfl.server.identity import Identity  # needs the package cryptography

    identity = Identity.load(tls.certificate, tls.key, tls.password)
    moment = now or datetime.now(timezone.utc)
    identity.check_valid(moment)
    context = AlertingContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    _use_identity(context, identity)
    if tls.cipher_list:
        _use_ciphers(context, tls.cipher_list)
    if tls.require_client_certificate:
        _use_authorities(context, tls.ca_path)
    if tls.crl_path is not None:
        identity.check_not_revoked(tls.crl_path)
        _load_pem(context, tls.crl_path, "revocation list")
        context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    return LoadedTls(context, identity.expiry_warning(moment, tls.warning_days))


def _use_identity(context: ssl.SSLContext, identity: Identity) -> None:
    one_time = secrets.token_hex(32)
    try:
        with _private_file(identity.pem(one_time)) as path:
            context.load_cert_chain(path, password=one_time)
    except ssl.SSLError as error:
        raise OptionError(f"{identity.source}: OpenSSL does not take this certificate ({error.reason})") from None
    except OSError as error:
        raise StorageError.from_os_error(error, "write", tempfile.gettempdir()) from None


@contextmanager
def _private_file(content: bytes) -> Iterator[Path]:
    """Yield a file that only this user can read, for as long as the context lasts.

    Its content is encrypted with a password that exists in memory only, so that not even a crash leaves a key.
    """
    with scratch_folder("mindfl-tls") as folder:
        path = Path(folder, "identity.pem")
        path.touch(0o600)
        path.write_bytes(content)
        yield path


def _use_ciphers(context: ssl.SSLContext, cipher_list: str) -> None:
    try:
        context.set_ciphers(cipher_list)
    except ssl.SSLError:
        raise OptionError("ssl.cipher_list names no cipher that this OpenSSL has") from None


def _use_authorities(context: ssl.SSLContext, path: PathLike | None) -> None:
    if path is None:
        raise OptionError("client certificates are required, but no authority to check them is named")
    _load_pem(context, path, "certificate of an authority")
    context.verify_mode = ssl.CERT_REQUIRED


def _load_pem(context: ssl.SSLContext, path: PathLike, what: str) -> None:
    read_file(path)
    try:
        context.load_verify_locations(path)
    except (ssl.SSLError, ValueError):
        raise OptionError(f"{path} holds no {what}", hint="name a PEM file") from None
