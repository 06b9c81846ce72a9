"""A certificate authority for tests and private networks: the files behind ``mindfl server certs``.

Certificates are X.509 version 3 (RFC 5280) for ECDSA P-256 or RSA 3072 keys; the server's names stand in its
subjectAltName, where clients look for them (RFC 9525). Needs the package cryptography.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta, timezone
from pathlib import Path

from mindfl.errors import OptionError, StorageError
from mindfl.files import PathLike, make_dir, scratch_folder
from mindfl.imports import lacks
from mindfl.options.declaration import declared_arguments
from mindfl.options.server_options import CertsOptions, KeyType

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import pkcs12
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ModuleNotFoundError:
    raise lacks("making certificates", "cryptography") from None

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
_CLOCK_SKEW = timedelta(hours=1)
_NEW_KEY: dict[str, Callable[[], PrivateKey]] = {
    "ec": lambda: ec.generate_private_key(ec.SECP256R1()),
    "rsa": lambda: rsa.generate_private_key(65537, 3072),
}


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where the files are. Certificates, keys and the revocation list are PEM; the .p12 hold a certificate and its key.

    Keys in PEM have no password; they and the .p12 have mode 0600.
    """

    ca_cert: Path
    ca_key: Path
    server_cert: Path
    server_key: Path
    server_p12: Path
    client_cert: Path
    client_key: Path
    client_p12: Path
    crl: Path

    @staticmethod
    def within(folder: PathLike) -> CertificateFiles:
        """Return the paths in ``folder``: ``ca.crt``, ``server.key``, ``client.p12``, ``crl.pem``, ..."""
        names = ("ca.crt", "ca.key", "server.crt", "server.key", "server.p12", "client.crt", "client.key", "client.p12")
        return CertificateFiles(*(Path(folder, name) for name in (*names, "crl.pem")))

    def paths(self) -> list[Path]:
        """Return all of them."""
        return [getattr(self, item.name) for item in fields(self)]


@dataclass(frozen=True, slots=True)
class _Authority:
    certificate: x509.Certificate
    key: PrivateKey


@dataclass(frozen=True, slots=True)
class _Validity:
    start: datetime
    end: datetime


@declared_arguments(CertsOptions)
def make_certificates(
    folder: PathLike,
    hosts: Sequence[str] = LOCAL_HOSTS,
    *,
    days: int = 365,
    password: str | None = None,
    key_type: KeyType = "ec",
    force: bool = False,
    start: datetime | None = None,
) -> CertificateFiles:
    """Make an authority, a server and a client certificate, and an empty revocation list; return where they are.

    Args:
        folder: created if missing.
        hosts: names and IP addresses under which clients will reach the server.
        days: validity of everything, from ``start`` (by default an hour ago, as clocks differ).
        password: of the .p12 files; None or empty: they have none.
        key_type: ``ec`` or ``rsa``.
        force: whether existing files of these names are replaced; without it they are an error.

    Raises :class:`OptionError` for an unusable argument and for files that exist, :class:`StorageError` where the
    files cannot be written. Either all files are new afterwards, or none was touched before the last steps.
    """
    files = CertificateFiles.within(folder)
    if not force:
        _check_new(files)
    names = _names(hosts)
    begin = start or datetime.now(timezone.utc) - _CLOCK_SKEW
    validity = _Validity(begin, begin + timedelta(days=days))
    authority = _authority(key_type, validity)
    contents: dict[Path, bytes] = {
        files.ca_cert: _pem(authority.certificate),
        files.ca_key: _key_pem(authority.key),
        files.crl: _empty_revocation_list(authority, validity.end),
    }
    for role, usage, alternatives in (
        ("server", ExtendedKeyUsageOID.SERVER_AUTH, names),
        ("client", ExtendedKeyUsageOID.CLIENT_AUTH, []),
    ):
        key = _NEW_KEY[key_type]()
        certificate = _certificate(authority, role, key, usage, alternatives, validity)
        contents[Path(folder, f"{role}.crt")] = _pem(certificate)
        contents[Path(folder, f"{role}.key")] = _key_pem(key)
        contents[Path(folder, f"{role}.p12")] = _p12(role, certificate, key, authority, password)
    _write(Path(folder), contents, public={files.ca_cert, files.server_cert, files.client_cert, files.crl})
    return files


def _check_new(files: CertificateFiles) -> None:
    existing = [path for path in files.paths() if path.exists()]
    if existing:
        raise OptionError(f"{existing[0]} exists already", hint="choose another folder, or --force to replace it")


def _names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    if not hosts:
        raise OptionError("a server certificate needs at least one host name or address")
    return [_name(host) for host in hosts]


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        ascii_host = host.encode("idna").decode()
        if not ascii_host or not all(character.isalnum() or character in "-.*" for character in ascii_host):
            raise ValueError(host)
        return x509.DNSName(ascii_host)
    except ValueError:
        raise OptionError(f"{host!r} is neither a host name nor an IP address") from None


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(subject: x509.Name, issuer: x509.Name, key: PrivateKey, validity: _Validity) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity.start)
        .not_valid_after(validity.end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=not authority,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _authority(key_type: str, validity: _Validity) -> _Authority:
    key, name = _NEW_KEY[key_type](), _subject(f"mindfl test authority {x509.random_serial_number():x}"[:40])
    builder = _builder(name, name, key, validity)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(authority=True), critical=True)
    return _Authority(builder.sign(key, hashes.SHA256()), key)


def _certificate(
    authority: _Authority,
    role: str,
    key: PrivateKey,
    usage: x509.ObjectIdentifier,
    names: Sequence[x509.GeneralName],
    validity: _Validity,
) -> x509.Certificate:
    issuer = authority.certificate
    builder = _builder(_subject(f"mindfl {role}"), issuer.subject, key, validity)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(authority=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = builder.add_extension(identifier, critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(authority.key, hashes.SHA256())


def _empty_revocation_list(authority: _Authority, end: datetime) -> bytes:
    builder = x509.CertificateRevocationListBuilder().issuer_name(authority.certificate.subject)
    builder = builder.last_update(authority.certificate.not_valid_before_utc).next_update(end)
    return builder.sign(authority.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: PrivateKey) -> bytes:
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)


def _p12(
    role: str, certificate: x509.Certificate, key: PrivateKey, authority: _Authority, password: str | None
) -> bytes:
    encryption = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    return pkcs12.serialize_key_and_certificates(
        f"mindfl {role}".encode(), key, certificate, [authority.certificate], encryption
    )


def _write(folder: Path, contents: Mapping[Path, bytes], public: set[Path]) -> None:
    """Write all files into a private folder first, so that a full disk leaves nothing behind, then move them."""
    make_dir(folder)
    try:
        with scratch_folder(".certificates", folder) as staging:
            for path, content in contents.items():
                staged = Path(staging, path.name)
                staged.touch(0o644 if path in public else 0o600)
                with staged.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            for path in contents:
                Path(staging, path.name).replace(path)
    except OSError as error:
        raise StorageError.from_os_error(error, "write", folder) from None
