"""A server's certificate, its chain and its key, read from PEM or PKCS#12 (RFC 7292) and checked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from mindfl.errors import OptionError
from mindfl.files import PathLike, read_file
from mindfl.imports import lacks

try:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.hazmat.primitives.serialization import pkcs12
except ModuleNotFoundError:
    raise lacks("serving TLS", "cryptography") from None

_PEM = b"-----BEGIN "
_BROKEN = (ValueError, TypeError, UnsupportedAlgorithm)


@dataclass(frozen=True)
class Identity:
    """``chain`` begins with the server's own certificate; ``source`` is the file it came from."""

    source: Path
    chain: list[x509.Certificate]
    key: PrivateKeyTypes

    @staticmethod
    def load(certificate: PathLike, key: PathLike | None, password: str | None) -> Identity:
        """Read the files; arguments and errors are those of :func:`mindfl.server.server_tls.load_tls`."""
        source, secret = Path(certificate), password.encode() if password else None
        content = read_file(source)
        if _PEM not in content:
            identity = _from_pkcs12(source, content, secret)
        else:
            key_source = source if key is None else Path(key)
            identity = Identity(source, _chain(source, content), _key(key_source, read_file(key_source), secret))
        if identity.key.public_key() != identity.chain[0].public_key():
            raise OptionError(f"the key in {key or source} does not belong to the certificate in {source}")
        return identity

    def check_valid(self, now: datetime) -> None:
        """Raise :class:`OptionError` where the certificate is not valid at ``now``."""
        certificate = self.chain[0]
        if now < certificate.not_valid_before_utc:
            begin = f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
            raise OptionError(f"the certificate in {self.source} is valid from {begin} on only", hint="check the clock")
        if now > certificate.not_valid_after_utc:
            end = f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
            raise OptionError(f"the certificate in {self.source} expired at {end}", hint="renew it")

    def check_not_revoked(self, path: PathLike) -> None:
        """Raise :class:`OptionError` where the revocation list (PEM) in ``path`` names the certificate."""
        try:
            listed = x509.load_pem_x509_crl(read_file(path))
        except _BROKEN:
            raise OptionError(f"{path} holds no revocation list", hint="name a PEM file") from None
        own = self.chain[0]
        entry = listed.get_revoked_certificate_by_serial_number(own.serial_number)
        if listed.issuer == own.issuer and entry is not None:
            raise OptionError(f"the certificate in {self.source} is revoked by {path}", hint="use another one")

    def expiry_warning(self, now: datetime, days: int) -> str:
        """Return one line where the certificate ends within ``days``, else an empty text."""
        left = self.chain[0].not_valid_after_utc - now
        if left > timedelta(days=days):
            return ""
        return f"the certificate in {self.source} expires in {left.days} days: renew it"

    def pem(self, password: str) -> bytes:
        """Return key and chain, the key encrypted with ``password``."""
        encryption = serialization.BestAvailableEncryption(password.encode())
        key = self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        return key + b"".join(item.public_bytes(serialization.Encoding.PEM) for item in self.chain)


def _from_pkcs12(source: Path, content: bytes, password: bytes | None) -> Identity:
    try:
        key, certificate, others = pkcs12.load_key_and_certificates(content, password)
    except _BROKEN as error:
        if "password" in str(error).lower():
            raise _wrong_password(source, password) from None
        raise OptionError(f"{source} holds no certificate", hint="name a PKCS#12 or a PEM file") from None
    if certificate is None or key is None:
        raise OptionError(f"{source} holds no {'certificate' if key is not None else 'key'}")
    return Identity(source, [certificate, *others], key)


def _chain(source: Path, content: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except _BROKEN:
        raise OptionError(f"{source} holds no certificate", hint="name a PKCS#12 or a PEM file") from None


def _key(source: Path, content: bytes, password: bytes | None) -> PrivateKeyTypes:
    start = content.find(b"PRIVATE KEY-----")
    if start < 0:
        raise OptionError(f"{source} holds no key", hint="append the key to the certificate, or name its file")
    block = content[content.rfind(_PEM, 0, start) :]
    encrypted = b"ENCRYPTED" in block
    try:
        return serialization.load_pem_private_key(block, password if encrypted else None)
    except _BROKEN:
        if encrypted:
            raise _wrong_password(source, password) from None
        raise OptionError(f"the key in {source} is damaged or of an unknown kind") from None


def _wrong_password(source: Path, password: bytes | None) -> OptionError:
    return OptionError(f"the password does not fit {source}" if password else f"{source} needs a password")
