"""The test authority: what its files hold, who may read them, and that nothing is overwritten or left half-made."""

from __future__ import annotations

import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12
from revocation import revoke

from mindfl.errors import OptionError, StorageError
from mindfl.server.certificates import CertificateFiles, make_certificates


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    folder = tmp_path_factory.mktemp("certs") / "with blank é"
    return make_certificates(folder, ["localhost", "10.1.2.3", "::1", "bücher.example"], days=30, password="päss word")


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_every_file_is_there_and_only_the_user_reads_the_keys(files: CertificateFiles) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in files.paths()}
    assert {name for name, mode in modes.items() if mode == 0o600} == {
        *("ca.key", "server.key", "client.key", "server.p12", "client.p12")
    }
    assert {name for name in modes if name.endswith((".crt", ".pem"))} == {
        *("ca.crt", "server.crt", "client.crt", "crl.pem")
    }
    assert sorted(path.name for path in files.ca_cert.parent.iterdir()) == sorted(modes)


def test_the_server_certificate_names_its_hosts_and_comes_from_the_authority(files: CertificateFiles) -> None:
    authority, server, client = map(certificate, (files.ca_cert, files.server_cert, files.client_cert))
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "xn--bcher-kva.example"]
    assert [str(item) for item in names.get_values_for_type(x509.IPAddress)] == ["10.1.2.3", "::1"]
    for leaf in (server, client):
        leaf.verify_directly_issued_by(authority)
        assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == timedelta(days=30)
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert len({authority.serial_number, server.serial_number, client.serial_number}) == 3


@pytest.mark.parametrize("role", ["server", "client"])
def test_pem_and_p12_hold_the_same_certificate_with_its_key(files: CertificateFiles, role: str) -> None:
    pem = certificate(getattr(files, f"{role}_cert"))
    key = serialization.load_pem_private_key(getattr(files, f"{role}_key").read_bytes(), None)
    content = getattr(files, f"{role}_p12").read_bytes()
    p12_key, p12_certificate, others = pkcs12.load_key_and_certificates(content, "päss word".encode())
    assert p12_certificate == pem
    assert p12_key is not None
    assert p12_key.public_key() == key.public_key() == pem.public_key()
    assert others == [certificate(files.ca_cert)]
    with pytest.raises(ValueError, match="password"):
        pkcs12.load_key_and_certificates(content, b"other")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl command")
def test_openssl_accepts_the_chain(files: CertificateFiles) -> None:
    command = ["openssl", "verify", "-x509_strict", "-crl_check", "-CAfile", str(files.ca_cert)]
    command += ["-CRLfile", str(files.crl), str(files.server_cert), str(files.client_cert)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_rsa_keys_and_no_password(tmp_path: Path) -> None:
    files = make_certificates(tmp_path, key_type="rsa")
    key, _, _ = pkcs12.load_key_and_certificates(files.server_p12.read_bytes(), None)
    assert getattr(key, "key_size", 0) == 3072


def test_the_list_can_be_added_to(tmp_path: Path) -> None:
    files = make_certificates(tmp_path)
    assert len(x509.load_pem_x509_crl(files.crl.read_bytes())) == 0
    revoke(tmp_path, [files.server_cert])
    revoke(tmp_path, [files.client_cert])
    listed = x509.load_pem_x509_crl(files.crl.read_bytes())
    assert {entry.serial_number for entry in listed} == {
        certificate(path).serial_number for path in (files.server_cert, files.client_cert)
    }
    assert listed.is_signature_valid(certificate(files.ca_cert).public_key())  # type: ignore[arg-type]


def test_existing_files_stay_unless_forced(tmp_path: Path) -> None:
    files = CertificateFiles.within(tmp_path)
    files.server_key.write_text("precious")
    with pytest.raises(OptionError, match=r"server\.key exists already"):
        make_certificates(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["server.key"]
    make_certificates(tmp_path, force=True)
    assert "PRIVATE KEY" in files.server_key.read_text()
    assert files.server_key.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hosts": []}, "at least one host"),
        ({"hosts": ["a b"]}, "neither a host name nor an IP address"),
        ({"hosts": [""]}, "neither a host name nor an IP address"),
        ({"hosts": ["x" * 70]}, "neither a host name nor an IP address"),
        ({"days": 0}, "days must be"),
        ({"days": 10**9}, "days must be"),
        ({"key_type": "dsa"}, "key_type must be"),
    ],
)
def test_unusable_arguments_are_refused_before_anything_is_written(
    tmp_path: Path, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        make_certificates(tmp_path / "new", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()


def test_a_failing_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        make_certificates(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        make_certificates(tmp_path / "file")
