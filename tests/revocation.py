"""Revocation lists of the authority that ``mindfl server certs`` makes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from mindfl.server.certificates import CertificateFiles


def revoke(folder: Path, certificates: Iterable[Path]) -> Path:
    """Add ``certificates`` to the list in ``folder``; return its path."""
    files = CertificateFiles.within(folder)
    key = serialization.load_pem_private_key(files.ca_key.read_bytes(), None)
    listed = x509.load_pem_x509_crl(files.crl.read_bytes())
    serials = [entry.serial_number for entry in listed]
    serials += [x509.load_pem_x509_certificate(path.read_bytes()).serial_number for path in certificates]
    builder = x509.CertificateRevocationListBuilder().issuer_name(listed.issuer)
    builder = builder.last_update(listed.last_update_utc).next_update(listed.next_update_utc)
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(listed.last_update_utc)
        builder = builder.add_revoked_certificate(entry.build())
    files.crl.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return files.crl
