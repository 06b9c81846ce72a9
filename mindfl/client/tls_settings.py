"""TLS settings of a client: trusted authorities, versions, own certificate; messages for failed handshakes."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from mindfl.errors import OptionError, StorageError, TlsError, TransportError
from mindfl.files import PathLike, read_file
from mindfl.spelling import checked_arguments

VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}

# Verification results of OpenSSL (x509_vfy.h) -> cause, remedy.
_CERTIFICATE = {
    3: ("the revocation list of its authority is missing", "give the list of the authority that signed it"),
    9: ("its certificate is not yet valid", "check the clocks of both machines"),
    10: ("its certificate has expired", "renew it, or check this machine's clock"),
    11: ("the revocation list is not yet valid", "check this machine's clock"),
    12: ("the revocation list has expired", "fetch a newer one"),
    23: ("its certificate is revoked", "give the server a new certificate"),
    62: ("its certificate is for another host name", "use a name that the certificate holds"),
    64: ("its certificate is for another IP address", "use an address that the certificate holds"),
}
_UNKNOWN_AUTHORITY = ("its certificate is not signed by a trusted authority", "--cert_path must name that authority's")

# Reasons of OpenSSL's errors -> cause, remedy.
_PLAIN_HTTP = ("it does not speak TLS", "use http:// if that is a plain server")
_NO_VERSION = ("it offers no version of TLS that is allowed here", "this client speaks TLSv1.2 and TLSv1.3 only")
_OURS_MISSING = ("it demands a client certificate", "give one with --client_cert and --client_key")
_OURS_PERHAPS = ("it refuses the handshake", "give --client_cert if it demands a client certificate")
_OURS_REFUSED = ("it does not accept this client's certificate", "use one that the server's authority signed")
_REASONS = {
    "WRONG_VERSION_NUMBER": _PLAIN_HTTP,
    "HTTP_REQUEST": _PLAIN_HTTP,
    "UNKNOWN_PROTOCOL": _PLAIN_HTTP,
    "RECORD_LAYER_FAILURE": _PLAIN_HTTP,
    "UNSUPPORTED_PROTOCOL": _NO_VERSION,
    "TLSV1_ALERT_PROTOCOL_VERSION": _NO_VERSION,
    "NO_PROTOCOLS_AVAILABLE": _NO_VERSION,
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": _OURS_MISSING,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": _OURS_PERHAPS,
    "TLSV1_ALERT_UNKNOWN_CA": _OURS_REFUSED,
    "SSLV3_ALERT_BAD_CERTIFICATE": _OURS_REFUSED,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": ("it says that this client's certificate has expired", "renew it"),
    "SSLV3_ALERT_CERTIFICATE_REVOKED": ("it says that this client's certificate is revoked", "get a new one"),
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": _OURS_REFUSED,
    "TLSV1_ALERT_ACCESS_DENIED": _OURS_REFUSED,
}


@checked_arguments
@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """TLS settings of a client. Files are PEM.

    ``cert_path``: the authorities to trust, no others; None: those of the system. ``ssl_protocol``: ``TLSv1.2`` or
    ``TLSv1.3``, only that one; None: both. ``client_cert`` and ``client_key``: for servers that demand one (the
    key may be in the same file). ``crl_path``: revocation list of the authority; with it, a server certificate that is
    revoked, or not covered by the list, is refused. Raises :class:`OptionError` for an unknown version and for a key
    without certificate.
    """

    cert_path: PathLike | None = None
    ssl_protocol: str | None = None
    client_cert: PathLike | None = None
    client_key: PathLike | None = None
    crl_path: PathLike | None = None

    def __post_init__(self) -> None:
        if self.ssl_protocol is not None and self.ssl_protocol not in VERSIONS:
            raise OptionError(f"ssl_protocol must be {' or '.join(VERSIONS)}, got {self.ssl_protocol!r}")
        if self.client_key is not None and self.client_cert is None:
            raise OptionError("client_key is given, but no client_cert")


def client_context(settings: TlsSettings) -> ssl.SSLContext:
    """Return a context that verifies the chain, the validity and the host name of every server.

    Raises :class:`OptionError` for a file without a usable certificate, key or list, and :class:`StorageError` for one
    that cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = VERSIONS[settings.ssl_protocol or "TLSv1.2"]
    context.maximum_version = VERSIONS[settings.ssl_protocol or "TLSv1.3"]
    if settings.cert_path is None:
        context.load_default_certs()
    else:
        _load(context, settings.cert_path, "CERTIFICATE", "certificate of an authority")
    if settings.crl_path is not None:
        _load(context, settings.crl_path, "X509 CRL", "revocation list")
        context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    if settings.client_cert is not None:
        _load_own(context, settings.client_cert, settings.client_key)
    return context


def tls_error(error: ssl.SSLError, url: str) -> TransportError:
    """Return the error of a connection to ``url`` that TLS refused, with its cause and remedy."""
    if isinstance(error, ssl.SSLCertVerificationError):
        what, hint = _CERTIFICATE.get(error.verify_code, _UNKNOWN_AUTHORITY)
        return TlsError(f"the server at {url} is not trusted: {what}", hint=hint)
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        hint = "use http:// if that is a plain server; give --client_cert if it demands a client certificate"
        return TransportError(f"the server at {url} closed the encrypted connection", hint=hint, sent=True)
    reason = (error.reason or "").replace("SSL/TLS", "SSLV3")  # as OpenSSL 3.2 and later call it
    what, hint = _REASONS.get(reason, (f"TLS failed ({reason or error})", ""))
    return TlsError(f"no encrypted connection to {url}: {what}", hint=hint)


def _load(context: ssl.SSLContext, path: PathLike, label: str, what: str) -> None:
    content = read_file(path)
    if f"-----BEGIN {label}-----".encode() in content:
        try:
            context.load_verify_locations(path)
            return
        except (ssl.SSLError, ValueError):
            pass
    raise OptionError(f"{path} holds no usable {what}", hint="name a PEM file")


def _load_own(context: ssl.SSLContext, certificate: PathLike, key: PathLike | None) -> None:
    paths = [path for path in (certificate, key) if path is not None]
    for path in paths:
        read_file(path)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except _PasswordNeeded:
        raise OptionError(f"the key in {key or certificate} has a password", hint="store it without one") from None
    except (ssl.SSLError, ValueError) as error:
        mismatch = getattr(error, "reason", None) == "KEY_VALUES_MISMATCH"
        what = "do not belong together" if mismatch else "are no certificate with its key"
        files = " and ".join(str(Path(path)) for path in paths)
        raise OptionError(f"{files} {what}", hint="name PEM files") from None
    except OSError as error:
        raise StorageError.from_os_error(error, "read", certificate) from None


class _PasswordNeeded(Exception):  # noqa: N818 - control flow, not an error
    """The key is encrypted. Without this callback OpenSSL would ask for the password on the terminal."""


def _no_password() -> str:
    raise _PasswordNeeded
