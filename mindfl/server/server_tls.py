"""The server's side of TLS: its certificate, whom it accepts, and what a refused handshake means in plain words.

TLS 1.2 and 1.3 only (RFC 8996). Reading certificates needs the package cryptography; the handshakes are those of
Python's ssl module.
"""

from __future__ import annotations

import secrets
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mindfl.errors import OptionError, StorageError
from mindfl.files import PathLike, read_file
from mindfl.leftovers import scratch_folder
from mindfl.server.settings import JobSettings

if TYPE_CHECKING:
    from mindfl.server.identity import Identity


_TEXT = b"This port speaks TLS: use https://\n"
PLAIN_HTTP_REFUSED = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nServer: mindfl\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(_TEXT), _TEXT)
)
"""The answer to a request in the clear on a port for TLS."""

#: takes the alert of the handshake that is begun in this context
send_alert: ContextVar[Callable[[bytes], None] | None] = ContextVar("send_alert", default=None)


class AlertingContext(ssl.SSLContext):
    """A context of a server. What becomes of the alerts of a handshake is for :data:`send_alert` to say."""

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **options: Any) -> ssl.SSLObject:
        """As the base class does it."""
        made = super().wrap_bio(incoming, outgoing, *args, **options)
        assert isinstance(made, _AlertingObject)
        made.outgoing, made.send_alert = outgoing, send_alert.get()
        return made


class _AlertingObject(ssl.SSLObject):
    outgoing: ssl.MemoryBIO
    send_alert: Callable[[bytes], None] | None

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            alert = self.outgoing.read()
            farewell = PLAIN_HTTP_REFUSED if error.reason == "HTTP_REQUEST" else alert
            if farewell and self.send_alert:
                self.send_alert(farewell)
            raise


AlertingContext.sslobject_class = _AlertingObject


# Reasons of OpenSSL's errors -> what the log says about the client.
_REASONS = {
    "HTTP_REQUEST": "it speaks plain HTTP on a port for TLS",
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
    "UNSUPPORTED_PROTOCOL": "it offers no version of TLS from 1.2 on",
    "NO_SHARED_CIPHER": "it offers no cipher that is allowed here",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it sent no client certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it says that the server's certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "it says that the server's certificate is revoked",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not accept the server's certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it does not accept the server's certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not trust the authority of the server's certificate",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it allows no version of TLS from 1.2 on",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTls:
    """How a server proves who it is, and which clients it accepts.

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
    warning_days: int = 90

    @staticmethod
    def from_settings(settings: JobSettings, password: str | None) -> ServerTls | None:
        """Return what the ``ssl`` section says, or None where ``enable_ssl`` is false.

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
    """Read and check the files, and return what the server's sockets need.

    Raises :class:`StorageError` where a file cannot be read and :class:`OptionError` naming the file that is not what
    it should be: no certificate or no key in it, a wrong password, a key of another certificate, not yet or no longer
    valid at ``now``, revoked, no usable cipher.
    """
    from mindfl.server.identity import Identity  # needs an extra: whoever serves without TLS can do without

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


def handshake_fault(error: OSError) -> str:
    """Return why a handshake failed, for the server's log: a few words about the client."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    if isinstance(error, ConnectionAbortedError):  # asyncio's
        return "its handshake took too long"
    if isinstance(error, ssl.SSLEOFError) or not isinstance(error, ssl.SSLError):
        return "it closed the connection during the handshake"
    return _REASONS.get(error.reason or "", f"TLS failed ({error.reason or error})")


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

    What is put there is encrypted with a password that exists in memory only, so that not even a crash leaves a key.
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
