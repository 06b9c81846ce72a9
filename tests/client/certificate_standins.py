"""Certificates for tests: an authority, and whatever it signs."""

import datetime
import ipaddress
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NOW = datetime.datetime.now(datetime.timezone.utc)
DAY = datetime.timedelta(days=1)


class Authority:
    """A certificate authority that writes PEM files into ``folder``."""

    def __init__(self, folder, name="authority"):
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(self._name, self._key, NOW - 9 * DAY, NOW + 9 * DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.path = self._write(name, builder.sign(self._key, hashes.SHA256()))

    def sign(self, name, *, start=NOW - DAY, end=NOW + DAY, hosts=("127.0.0.1", "localhost")):
        """Return (path of certificate and key in one file, serial number)."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = [
            x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host) for host in hosts
        ]
        builder = self._builder(subject, key, start, end)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return self._write(name, certificate, key), certificate.serial_number

    def revoke(self, *serials, start=NOW - DAY, end=NOW + DAY):
        """Return the path of a revocation list of these serial numbers."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._name).last_update(start).next_update(end)
        for serial in serials:
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(start).build()
            builder = builder.add_revoked_certificate(revoked)
        return self._write("revoked", builder.sign(self._key, hashes.SHA256()))

    def _builder(self, subject, key, start, end):
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
        )

    def _write(self, name, what, key=None, password=None):
        path = self.folder / f"{name}.pem"
        content = what.public_bytes(serialization.Encoding.PEM)
        if key is not None:
            content += key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        path.write_bytes(content)
        return path


def server_context(certificate, *, clients=None, version=None):
    """A server that shows ``certificate``; demands certificates of the authority ``clients`` where that is given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if version is not None:
        # Security level 0, or OpenSSL has no ciphers for the old versions.
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = min(version, ssl.TLSVersion.TLSv1_2)
        context.maximum_version = version
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)
    return context
