"""TLS of the server, with the package's own client on real sockets: accepted and refused connections."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from revocation import revoke

from mindfl.client.tls_settings import TlsSettings, client_context, tls_error
from mindfl.errors import OptionError, StorageError
from mindfl.server.certificates import CertificateFiles, make_certificates
from mindfl.server.http.tls_gate import handshake_fault
from mindfl.server.server_tls import ServerTls, load_tls

NOW = datetime.now(timezone.utc)
PASSWORD = "server password 12345"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    return make_certificates(tmp_path_factory.mktemp("own"), password=PASSWORD)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    return make_certificates(tmp_path_factory.mktemp("foreign"))


def plain(files: CertificateFiles) -> ServerTls:
    return ServerTls(certificate=files.server_cert, key=files.server_key)


def demanding(files: CertificateFiles, crl: Path | None = None) -> ServerTls:
    return ServerTls(
        certificate=files.server_cert,
        key=files.server_key,
        ca_path=files.ca_cert,
        crl_path=crl,
        require_client_certificate=True,
    )


def exchange(server: ssl.SSLContext, client: ssl.SSLContext | None, host: str = "localhost") -> tuple[str, str]:
    """Let both ends shake hands and send a word each way; return (version or server's fault, reply or client's error).

    A client without a context speaks plain HTTP.
    """
    ours, theirs = socket.socketpair()
    outcome: list[str] = []

    def serve() -> None:
        with server.wrap_socket(ours, server_side=True, do_handshake_on_connect=False) as wrapped:
            try:
                wrapped.do_handshake()
                wrapped.sendall(wrapped.recv(5))
                outcome.append(wrapped.version() or "")
            except OSError as error:
                outcome.append(handshake_fault(error))
                # What arrives after the alert is read too: closing before would take the alert back.
                with suppress(OSError):
                    wrapped.shutdown(socket.SHUT_WR)
                    while wrapped.recv(4096):
                        pass

    thread = threading.Thread(target=serve)
    thread.start()
    theirs.settimeout(10)
    with theirs:
        reply = _ask(theirs, client, host)
    thread.join(10)
    assert not thread.is_alive()
    return outcome[0], reply


def _ask(theirs: socket.socket, client: ssl.SSLContext | None, host: str) -> str:
    try:
        if client is None:
            theirs.sendall(b"POST /startFLJob HTTP/1.1\r\n\r\n")
            return theirs.recv(100).decode(errors="replace")
        with client.wrap_socket(theirs, server_hostname=host) as wrapped:
            wrapped.sendall(b"hello")
            return wrapped.recv(5).decode()
    except ssl.SSLError as error:
        return str(tls_error(error, "https://localhost"))


def trusting(files: CertificateFiles, **more: object) -> ssl.SSLContext:
    return client_context(TlsSettings(cert_path=files.ca_cert, **more))  # type: ignore[arg-type]


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_pem_and_pkcs12_serve_both_versions(files: CertificateFiles, version: str) -> None:
    for tls in (plain(files), ServerTls(certificate=files.server_p12, password=PASSWORD)):
        context = load_tls(tls).context
        assert exchange(context, trusting(files, ssl_protocol=version)) == (version, "hello")


def test_the_chosen_cipher_is_used(files: CertificateFiles) -> None:
    tls = ServerTls(
        certificate=files.server_cert, key=files.server_key, cipher_list="NONSENSE:ECDHE-ECDSA-AES256-GCM-SHA384"
    )
    names = {cipher["name"] for cipher in load_tls(tls).context.get_ciphers() if cipher["protocol"] == "TLSv1.2"}
    assert names == {"ECDHE-ECDSA-AES256-GCM-SHA384"}


def test_rsa_certificate_with_its_key_in_one_file(tmp_path: Path) -> None:
    files = make_certificates(tmp_path, key_type="rsa")
    both = tmp_path / "both.pem"
    both.write_bytes(files.server_key.read_bytes() + files.server_cert.read_bytes())
    assert exchange(load_tls(ServerTls(certificate=both)).context, trusting(files))[1] == "hello"


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_a_client_certificate_of_our_authority_is_accepted(files: CertificateFiles, version: str) -> None:
    client = trusting(files, ssl_protocol=version, client_cert=files.client_cert, client_key=files.client_key)
    assert exchange(load_tls(demanding(files, files.crl)).context, client) == (version, "hello")


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_a_missing_client_certificate_is_refused(files: CertificateFiles, version: str) -> None:
    fault, reply = exchange(load_tls(demanding(files)).context, trusting(files, ssl_protocol=version))
    assert fault == "it sent no client certificate"
    assert "refuses the handshake" in reply if version == "TLSv1.2" else "demands a client certificate" in reply


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_a_foreign_client_certificate_is_refused(
    files: CertificateFiles, foreign: CertificateFiles, version: str
) -> None:
    client = trusting(files, ssl_protocol=version, client_cert=foreign.client_cert, client_key=foreign.client_key)
    fault, reply = exchange(load_tls(demanding(files)).context, client)
    assert fault.startswith("its certificate is refused: ")
    assert "does not accept this client's certificate" in reply


def test_a_revoked_client_certificate_is_refused(tmp_path: Path) -> None:
    files = make_certificates(tmp_path)
    crl = revoke(tmp_path, [files.client_cert])
    client = trusting(files, client_cert=files.client_cert, client_key=files.client_key)
    fault, reply = exchange(load_tls(demanding(files, crl)).context, client)
    assert fault == "its certificate is refused: certificate revoked"
    assert "this client's certificate is revoked" in reply


def test_a_server_certificate_is_no_client_certificate(files: CertificateFiles) -> None:
    client = trusting(files, client_cert=files.server_cert, client_key=files.server_key)
    fault, reply = exchange(load_tls(demanding(files)).context, client)
    assert fault.startswith("its certificate is refused: ")
    assert reply != "hello"


def test_a_client_with_another_authority_refuses_the_server(files: CertificateFiles, foreign: CertificateFiles) -> None:
    fault, reply = exchange(load_tls(plain(files)).context, trusting(foreign))
    assert "not signed by a trusted authority" in reply
    assert fault == "it does not trust the authority of the server's certificate"


@pytest.mark.parametrize(
    ("start", "message"),
    [(NOW - timedelta(days=20), "has expired"), (NOW + timedelta(days=5), "not yet valid")],
    ids=["expired", "not yet valid"],
)
def test_a_certificate_outside_its_validity_is_refused_by_client_and_at_start(
    tmp_path: Path, start: datetime, message: str
) -> None:
    files = make_certificates(tmp_path, days=10, start=start)
    with pytest.raises(OptionError, match=r"server\.crt (expired at|is valid from)"):
        load_tls(plain(files))
    fault, reply = exchange(load_tls(plain(files), start + timedelta(days=1)).context, trusting(files))
    assert message in reply
    assert "server's certificate" in fault


@pytest.mark.parametrize(("host", "name"), [("other.example", "host name"), ("10.9.9.9", "IP address")])
def test_another_host_is_refused(files: CertificateFiles, host: str, name: str) -> None:
    fault, reply = exchange(load_tls(plain(files)).context, trusting(files), host)
    assert f"for another {name}" in reply
    assert fault


def test_a_revoked_server_certificate_is_refused_by_client_and_at_start(tmp_path: Path) -> None:
    files = make_certificates(tmp_path)
    crl = revoke(tmp_path, [files.server_cert])
    with pytest.raises(OptionError, match="is revoked by"):
        load_tls(ServerTls(certificate=files.server_cert, key=files.server_key, crl_path=crl))
    fault, reply = exchange(load_tls(plain(files)).context, trusting(files, crl_path=crl))
    assert "is revoked" in reply
    assert fault == "it says that the server's certificate is revoked"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_1_1_is_refused(files: CertificateFiles) -> None:
    client = trusting(files)
    client.set_ciphers("DEFAULT@SECLEVEL=0")
    client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
    fault, reply = exchange(load_tls(plain(files)).context, client)
    assert fault == "it offers no version of TLS from 1.2 on"
    assert reply != "hello"


def test_plain_http_is_refused(files: CertificateFiles) -> None:
    fault, reply = exchange(load_tls(plain(files)).context, None)
    assert fault == "it speaks plain HTTP on a port for TLS"
    assert "HTTP" not in reply


def test_a_client_that_leaves_is_no_tls_fault() -> None:
    assert handshake_fault(ConnectionResetError()) == "it closed the connection during the handshake"
    assert handshake_fault(ConnectionAbortedError()) == "its handshake took too long"


def test_the_end_of_a_certificate_is_announced(tmp_path: Path) -> None:
    files = make_certificates(tmp_path, days=30)
    tls = ServerTls(certificate=files.server_cert, key=files.server_key, warning_days=7)
    assert load_tls(tls).warning == ""
    warning = load_tls(tls, datetime.now(timezone.utc) + timedelta(days=25)).warning
    assert warning.endswith("expires in 4 days: renew it")


def test_unusable_files_are_named(files: CertificateFiles, foreign: CertificateFiles, tmp_path: Path) -> None:
    junk = tmp_path / "junk ü.pem"
    junk.write_bytes(b"\0junk")
    broken = tmp_path / "broken.pem"
    broken.write_bytes(files.server_cert.read_bytes() + files.server_key.read_bytes()[:60] + b"\n")
    cases = {
        ServerTls(certificate=files.server_p12): "needs a password",
        ServerTls(certificate=files.server_p12, password="x"): r"the password does not fit .*server\.p12",
        ServerTls(certificate=foreign.server_p12, password="x"): "the password does not fit",
        ServerTls(certificate=files.server_cert): "holds no key",
        ServerTls(certificate=files.server_cert, key=files.crl): "holds no key",
        ServerTls(certificate=files.server_key): "holds no certificate",
        ServerTls(certificate=files.server_cert, key=foreign.server_key): "does not belong to the certificate",
        ServerTls(certificate=junk): "holds no certificate",
        ServerTls(certificate=broken): "damaged",
        ServerTls(certificate=files.server_cert, key=files.server_key, crl_path=junk): "no revocation list",
        ServerTls(certificate=files.server_cert, key=files.server_key, cipher_list="FOO"): "no cipher",
        ServerTls(certificate=files.server_cert, key=files.server_key, require_client_certificate=True): "no authority",
        ServerTls(
            certificate=files.server_cert, key=files.server_key, require_client_certificate=True, ca_path=junk
        ): "no certificate of an authority",
    }
    for tls, message in cases.items():
        with pytest.raises(OptionError, match=message):
            load_tls(tls)
    for tls in (ServerTls(certificate=tmp_path / "none"), ServerTls(certificate=files.server_cert, key=tmp_path)):
        with pytest.raises(StorageError, match="cannot read"):
            load_tls(tls)


def test_a_key_with_a_password_in_pem_form(files: CertificateFiles, tmp_path: Path) -> None:
    key = serialization.load_pem_private_key(files.server_key.read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"pw")
        )
    )
    load_tls(ServerTls(certificate=files.server_cert, key=locked, password="pw"))
    with pytest.raises(OptionError, match=r"locked\.key needs a password"):
        load_tls(ServerTls(certificate=files.server_cert, key=locked))
    with pytest.raises(OptionError, match=r"the password does not fit .*locked\.key"):
        load_tls(ServerTls(certificate=files.server_cert, key=locked, password="no"))


def test_no_readable_key_ever_lies_in_the_temporary_folder(
    files: CertificateFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, str]] = []
    original = ssl.SSLContext.load_cert_chain

    def watch(context: ssl.SSLContext, path: Path, *, password: str) -> None:
        seen.append((path.stat().st_mode & 0o777, path.read_text()))
        original(context, path, password=password)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", watch)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    load_tls(plain(files))
    [(mode, text)] = seen
    assert mode == 0o600
    assert "BEGIN ENCRYPTED PRIVATE KEY" in text
    assert "BEGIN PRIVATE KEY" not in text
    assert list(tmp_path.iterdir()) == []


def test_no_room_for_the_temporary_file_is_a_storage_error(
    files: CertificateFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(StorageError, match="gone"):
        load_tls(plain(files))
