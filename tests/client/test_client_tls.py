"""HTTPS: accepted servers, and all that must be refused, each with a clear line."""

import ssl
import threading
import warnings

import pytest
from certificate_standins import DAY, NOW, Authority, server_context
from client_standins import T0, server
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from http_standins import StandInServer, raw_server
from urllib3.connection import HTTPSConnection

from mindfl.client import HttpSettings, HttpTransport, TlsSettings
from mindfl.errors import OptionError, StorageError, TlsError, TransportError
from mindfl.protocol import RequestGetModel, ResponseCode

ASK = RequestGetModel(fl_name="n", iteration=1, timestamp=str(T0))


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ours"), "our authority")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("theirs"), "their authority")


@pytest.fixture(scope="module")
def good(ours):
    return ours.sign("server")[0]


def ask(url, **settings):
    with HttpTransport(HttpSettings(url=url, tls=TlsSettings(**settings))) as transport:
        return transport.send(ASK, T0)


def refusal(context, kind=TlsError, host="127.0.0.1", **settings):
    coordinator, _ = server()
    with StandInServer(coordinator, context=context) as there, pytest.raises(kind) as raised:
        ask(f"https://{host}:{there.port}", **settings)
    assert there.seen == []
    assert "\n" not in raised.value.line() and f"https://{host}:{there.port}" in str(raised.value)
    assert raised.value.lasting
    return raised.value.line()


@pytest.mark.parametrize("failure", [ssl.SSLEOFError, ConnectionResetError, BrokenPipeError])
def test_an_answer_that_comes_before_the_upload_is_over(monkeypatch, ours, good, failure):
    """A proxy refuses a large upload before it has read it, and takes no more."""
    over = threading.Event()
    sent = []

    def refuse(connection):
        connection.recv(10_000)
        connection.sendall(b"HTTP/1.1 413 Request Entity Too Large\r\nContent-Length: 0\r\n\r\n")
        over.wait()

    def send(connection, data):
        if sent:
            raise failure
        sent.append(connection.sock.send(data))

    monkeypatch.setattr(HTTPSConnection, "send", send)
    with raw_server(refuse, server_context(good)) as port, pytest.raises(TransportError, match="status 413") as raised:
        try:
            ask(f"https://127.0.0.1:{port}", cert_path=ours.path)
        finally:
            over.set()
    assert raised.value.lasting


@pytest.mark.parametrize("version", [None, "TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_good_server(ours, good, host, version):
    coordinator, _ = server()
    with StandInServer(coordinator, context=server_context(good)) as there:
        answer = ask(f"https://{host}:{there.port}", cert_path=ours.path, ssl_protocol=version)
    assert answer.retcode == ResponseCode.SUC_NOT_READY


def test_the_version_asked_for_is_the_one_spoken(ours, good):
    spoken = []

    def talk(connection):
        spoken.append(connection.version())

    for version in ("TLSv1.2", "TLSv1.3"):
        with raw_server(talk, server_context(good)) as port, pytest.raises(TransportError):
            ask(f"https://127.0.0.1:{port}", cert_path=ours.path, ssl_protocol=version)
    assert spoken == ["TLSv1.2", "TLSv1.3"]


def test_a_client_certificate_that_is_demanded(ours, good):
    coordinator, _ = server()
    own = ours.sign("client")[0]
    with StandInServer(coordinator, context=server_context(good, clients=ours.path)) as there:
        assert ask(there.url, cert_path=ours.path, client_cert=own).retcode == ResponseCode.SUC_NOT_READY


def test_a_revocation_list_without_the_server(ours, good):
    coordinator, _ = server()
    with StandInServer(coordinator, context=server_context(good)) as there:
        assert ask(there.url, cert_path=ours.path, crl_path=ours.revoke(12345)).retcode == ResponseCode.SUC_NOT_READY


class TestRefused:
    def test_wrong_authority(self, theirs, good):
        line = refusal(server_context(good), cert_path=theirs.path)
        assert "not signed by a trusted authority" in line and "--cert_path" in line

    def test_the_systems_authorities_do_not_know_the_test_authority(self, good):
        assert "not signed by a trusted authority" in refusal(server_context(good))

    def test_an_authority_of_the_same_name(self, tmp_path, good):
        namesake = Authority(tmp_path, "our authority")
        assert "not signed by a trusted authority" in refusal(server_context(good), cert_path=namesake.path)

    def test_expired(self, ours):
        certificate, _ = ours.sign("expired", start=NOW - 3 * DAY, end=NOW - DAY)
        assert "has expired" in refusal(server_context(certificate), cert_path=ours.path)

    def test_not_yet_valid(self, ours):
        certificate, _ = ours.sign("early", start=NOW + DAY, end=NOW + 3 * DAY)
        assert "not yet valid" in refusal(server_context(certificate), cert_path=ours.path)

    def test_wrong_address(self, ours):
        certificate, _ = ours.sign("elsewhere", hosts=("10.1.2.3", "localhost"))
        assert "another IP address" in refusal(server_context(certificate), cert_path=ours.path)

    def test_wrong_host_name(self, ours):
        certificate, _ = ours.sign("elsewhere", hosts=("127.0.0.1", "example.org"))
        assert "another host name" in refusal(server_context(certificate), host="localhost", cert_path=ours.path)

    def test_revoked(self, ours):
        certificate, serial = ours.sign("revoked server")
        crl = ours.revoke(serial)
        assert "is revoked" in refusal(server_context(certificate), cert_path=ours.path, crl_path=crl)

    def test_revocation_list_that_has_expired(self, ours, good):
        crl = ours.revoke(start=NOW - 3 * DAY, end=NOW - DAY)
        line = refusal(server_context(good), cert_path=ours.path, crl_path=crl)
        assert "revocation list has expired" in line

    def test_revocation_list_of_another_authority(self, ours, theirs, good):
        line = refusal(server_context(good), cert_path=ours.path, crl_path=theirs.revoke())
        assert "revocation list of its authority is missing" in line

    @pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
    def test_old_versions(self, ours, good, version):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context = server_context(good, version=ssl.TLSVersion[version])
        assert "no version of TLS that is allowed here" in refusal(context, cert_path=ours.path)

    def test_a_version_that_the_server_lacks(self, ours, good):
        context = server_context(good, version=ssl.TLSVersion.TLSv1_2)
        assert "no version of TLS" in refusal(context, cert_path=ours.path, ssl_protocol="TLSv1.3")

    @pytest.mark.parametrize(("version", "what"), [("TLSv1.3", "demands a client certificate"), ("TLSv1.2", "demand")])
    def test_client_certificate_missing(self, ours, good, version, what):
        context = server_context(good, clients=ours.path)
        line = refusal(context, cert_path=ours.path, ssl_protocol=version)
        assert what in line and "client certificate" in line

    @pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
    def test_client_certificate_foreign(self, ours, theirs, good, version):
        context = server_context(good, clients=ours.path)
        own = theirs.sign("client")[0]
        line = refusal(context, cert_path=ours.path, client_cert=own, ssl_protocol=version)
        assert "does not accept this client's certificate" in line

    def test_http_to_a_tls_port(self, good):
        coordinator, _ = server()
        with StandInServer(coordinator, context=server_context(good)) as there, pytest.raises(TransportError) as raised:
            ask(f"http://127.0.0.1:{there.port}")
        assert "https://" in raised.value.hint

    def test_https_to_a_plain_port(self, ours):
        assert "does not speak TLS (use http://" in refusal(None, cert_path=ours.path)


class TestSettings:
    def refused(self, error, **settings):
        with pytest.raises(error) as raised:
            HttpTransport(HttpSettings(url="https://h:1", tls=TlsSettings(**settings)))
        assert "\n" not in raised.value.line()
        return str(raised.value)

    def test_unknown_version(self):
        assert "TLSv1.2 or TLSv1.3, got 'TLSv1.1'" in self.refused(OptionError, ssl_protocol="TLSv1.1")

    @pytest.mark.parametrize("name", ["cert_path", "crl_path", "client_cert"])
    def test_missing_files(self, tmp_path, name):
        assert "größe.pem" in self.refused(StorageError, **{name: tmp_path / "größe.pem"})

    @pytest.mark.parametrize("name", ["cert_path", "crl_path", "client_cert"])
    @pytest.mark.parametrize("content", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n", bytes(9999)])
    def test_files_of_something_else(self, tmp_path, name, content):
        path = tmp_path / "file.pem"
        path.write_bytes(content)
        assert "file.pem" in self.refused(OptionError, **{name: path})

    def test_a_certificate_is_no_revocation_list(self, ours):
        assert "no usable revocation list" in self.refused(OptionError, crl_path=ours.path)

    def test_a_key_without_a_certificate(self, good):
        assert "client_key is given, but no client_cert" in self.refused(OptionError, client_key=good)

    def test_a_certificate_without_a_key(self, ours):
        assert "are no certificate with its key" in self.refused(OptionError, client_cert=ours.path)

    def test_a_key_of_another_certificate(self, ours, good):
        other = ours.sign("other")[0]
        assert "do not belong together" in self.refused(OptionError, client_cert=good, client_key=other)

    def test_a_key_with_a_password_is_refused_and_not_asked_for(self, tmp_path, good):
        key = ec.generate_private_key(ec.SECP256R1())
        path = tmp_path / "key.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"secret"),
            )
        )
        assert "has a password" in self.refused(OptionError, client_cert=good, client_key=path)
