"""The HTTP transport against real sockets: requests, answers, and every way to fail."""

import threading

import numpy as np
import pytest
from client_standins import T0, server
from http_standins import StandInServer, answering, raw_server, read_request, unused_port
from hypothesis import given
from hypothesis import strategies as st

from mindfl.client import HttpSettings, HttpTransport, Traffic
from mindfl.errors import OptionError, TransportError
from mindfl.protocol import (
    PlainText,
    RequestFLJob,
    RequestGetModel,
    RequestUpdateModel,
    ResponseCode,
    ResponseFLJob,
    ResponseGetModel,
)
from mindfl.protocol.wire import encode_response

START = RequestFLJob(fl_name="n", fl_id="a", data_size=8, timestamp=str(T0))
ASK = RequestGetModel(fl_name="n", iteration=1, timestamp=str(T0))


def http(url, **settings):
    return HttpTransport(HttpSettings(url=url, **settings))


def failing(url, request=ASK, **settings):
    with http(url, **settings) as transport, pytest.raises(TransportError) as raised:
        transport.send(request, T0)
    assert "\n" not in raised.value.line() and url.partition("/p")[0] in raised.value.line()
    return raised.value


class TestExchange:
    def test_answers_are_the_coordinators(self):
        coordinator, _ = server(clients=2)
        with StandInServer(coordinator) as there, http(there.url) as transport:
            started = transport.send(START, T0)
            refused = transport.send(START, T0)

        assert isinstance(started, ResponseFLJob)
        assert (started.retcode, started.iteration, started.fl_plan_config.iterations) == (200, 1, 2)
        assert {name: values.tolist() for name, values in started.feature_map.items()} == {
            "conv.weight": [0.0, 0.0],
            "fc.weight": [0.0, 0.0, 0.0],
        }
        assert (refused.retcode, refused.reason) == (300, "Updating device metadata failed for fl id a")

    def test_one_connection_serves_all_requests(self):
        coordinator, _ = server()
        with StandInServer(coordinator) as there, http(there.url) as transport:
            for _ in range(5):
                transport.send(ASK, T0)

        assert there.seen == [("getModel", 1)] * 5

    def test_bare_text(self):
        coordinator, _ = server()
        coordinator.job.disable(T0)
        with StandInServer(coordinator) as there, http(there.url) as transport:
            assert transport.send(ASK, T0) == PlainText("The server's training job is disabled or finished.")

    @pytest.mark.parametrize("path", ["/pre/fix", "/pre/fix/"])
    def test_the_path_of_the_url_is_the_servers_prefix(self, path):
        coordinator, _ = server()
        there = StandInServer(coordinator, prefix="/pre/fix")
        with there, http(f"http://127.0.0.1:{there.port}{path}") as transport:
            assert transport.send(ASK, T0).retcode == ResponseCode.SUC_NOT_READY

    def test_what_is_counted_is_what_the_in_process_transport_counts(self):
        coordinator, _ = server()
        weights = {"fc.weight": np.ones(3, np.float32), "conv.weight": np.ones(2, np.float32)}
        update = RequestUpdateModel(fl_name="n", fl_id="a", iteration=1, feature_map=weights, timestamp=str(T0))
        with StandInServer(coordinator) as there, http(there.url) as transport:
            for request in (START, update, ASK):
                transport.send(request, T0)
            assert transport.traffic == Traffic(requests=3, bytes_up=20, bytes_down=40)

    def test_the_request_head(self):
        requests = []

        def talk(connection):
            requests.append(read_request(connection))
            body = encode_response(ResponseGetModel(retcode=201))
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

        with raw_server(talk) as port, http(f"http://127.0.0.1:{port}/x") as transport:
            transport.send(ASK, T0)

        lines = requests[0].partition(b"\r\n\r\n")[0].decode().split("\r\n")
        assert lines[0] == "POST /x/getModel HTTP/1.1"
        names = {line.partition(":")[0].lower() for line in lines[1:]}
        assert names == {"host", "accept-encoding", "content-length", "content-type", "user-agent"}

    def test_an_answer_that_ends_with_the_connection(self):
        body = encode_response(ResponseGetModel(retcode=201, iteration=7))
        talk = answering(b"HTTP/1.0 200 OK\r\n\r\n", body)
        with raw_server(talk) as port, http(f"http://127.0.0.1:{port}") as transport:
            assert transport.send(ASK, T0).iteration == 7

    def test_many_threads_share_a_transport(self):
        coordinator, _ = server(clients=100)
        errors = []

        def ask():
            try:
                for _ in range(10):
                    assert transport.send(ASK, T0).retcode == ResponseCode.SUC_NOT_READY
            except BaseException as error:
                errors.append(error)

        with StandInServer(coordinator) as there, http(there.url, connections=3) as transport:
            threads = [threading.Thread(target=ask) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        assert errors == []
        assert len(there.seen) == 80 and 1 <= there.connections <= 3
        assert transport.traffic.requests == 80

    def test_a_restarted_server_is_found_again(self):
        coordinator, _ = server()
        with http(f"http://127.0.0.1:{(port := unused_port())}") as transport:
            for _ in range(3):
                with StandInServer(coordinator, port=port):
                    assert transport.send(ASK, T0).retcode == ResponseCode.SUC_NOT_READY


class TestSeveralServers:
    def test_each_request_goes_to_the_chosen_port(self):
        coordinator, _ = server()
        numbers = iter([0, 0, 0])
        with StandInServer(coordinator) as there:
            settings = HttpSettings(url=there.url, use_elb=True, server_num=3)
            with HttpTransport(settings, lambda count: next(numbers)) as transport:
                for _ in range(3):
                    transport.send(ASK, T0)
        assert len(there.seen) == 3

    def test_ports_follow_that_of_the_url(self):
        first = unused_port()
        settings = HttpSettings(url=f"http://127.0.0.1:{first}", use_elb=True, server_num=4)
        chosen = []
        transport = HttpTransport(settings, lambda count: chosen.append(count) or 3)
        with transport, pytest.raises(TransportError, match=f":{first + 3}/getModel"):
            transport.send(ASK, T0)
        assert chosen == [4]

    @pytest.mark.parametrize("url", ["http://localhost:80", "http://127.0.0.1"])
    def test_only_addresses_with_a_port(self, url):
        with pytest.raises(OptionError, match="use_elb needs a URL of an IP address and a port"):
            HttpSettings(url=url, use_elb=True, server_num=2)

    def test_ports_end_at_65535(self):
        with pytest.raises(OptionError, match="no 3 ports from 65534 on"):
            HttpSettings(url="http://127.0.0.1:65534", use_elb=True, server_num=3)
        HttpSettings(url="http://[::1]:65534", use_elb=True, server_num=2)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:6668",
        "ftp://host:1",
        "http://",
        "http://:80",
        "http://host:0",
        "http://host:65536",
        "http://host:x",
        "http://host:80?a=b",
        "http://host:80#a",
        "http://user:pass@host:80",
        "http://ho st:80",
        "http://[::1:80",
        "http://host:80/a\r\nHost: b",
    ],
)
def test_urls_that_cannot_be_used(url):
    with pytest.raises(OptionError, match=r"server's URL .* cannot be used") as raised:
        HttpSettings(url=url)
    assert "http://HOST:PORT" in raised.value.hint


@given(st.text(max_size=30))
def test_any_text_is_a_url_or_a_clear_error(text):
    try:
        HttpSettings(url=f"http://{text}")
    except OptionError as error:
        assert "\n" not in error.line()


@pytest.mark.parametrize("name", ["send_s", "receive_s"])
@pytest.mark.parametrize("value", [1e300, float("inf")])
def test_time_limits_that_no_socket_takes(name, value):
    with pytest.raises(OptionError, match=f"{name} must be at most"):
        HttpSettings(url="http://h:1", **{name: value})


@pytest.mark.parametrize("name", ["server_num", "connections", "send_s", "receive_s", "max_answer"])
def test_numbers_are_above_0(name):
    with pytest.raises(OptionError, match=f"{name} must be above 0, got 0"):
        HttpSettings(url="http://h:1", **{name: 0})


class TestFailures:
    def test_nobody_listens(self):
        error = failing(f"http://127.0.0.1:{unused_port()}")
        assert "connection refused" in str(error) and "start the server" in error.hint
        assert (error.sent, error.lasting) == (False, False)

    def test_unknown_host(self):
        error = failing("http://no-such-host.invalid:80")
        assert "the host name is not known" in str(error)
        assert not error.sent

    def test_no_answer_in_time(self):
        release = threading.Event()
        with raw_server(lambda connection: (read_request(connection), release.wait(30))) as port:
            error = failing(f"http://127.0.0.1:{port}", receive_s=0.05)
            release.set()
        assert "did not answer within 0.05 s" in str(error)
        assert (error.sent, error.lasting) == (True, False)

    def test_an_answer_that_stalls(self):
        release = threading.Event()

        def talk(connection):
            read_request(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            release.wait(30)

        with raw_server(talk) as port:
            error = failing(f"http://127.0.0.1:{port}", receive_s=0.05)
            release.set()
        assert "did not answer within 0.05 s" in str(error) and error.sent

    def test_a_server_that_does_not_take_the_request(self):
        release = threading.Event()
        upload = RequestUpdateModel(fl_id="a", feature_map={"w": np.zeros(8_000_000, np.float32)})
        with raw_server(lambda connection: release.wait(30)) as port:
            error = failing(f"http://127.0.0.1:{port}", upload, send_s=0.05)
            release.set()
        assert "did not accept the request within 0.05 s" in str(error) and error.sent

    @pytest.mark.parametrize("talk", [read_request, lambda connection: None])
    def test_a_connection_closed_without_an_answer(self, talk):
        with raw_server(talk) as port:
            error = failing(f"http://127.0.0.1:{port}")
        assert "closed the connection without an answer" in str(error)
        assert (error.sent, error.lasting) == (True, False)

    def test_an_answer_that_is_cut_off(self):
        with raw_server(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"half")) as port:
            error = failing(f"http://127.0.0.1:{port}")
        assert "sent an incomplete answer" in str(error) and error.sent and not error.lasting

    @pytest.mark.parametrize("body", [b"", b"<html>hello</html>", bytes(1000)])
    def test_wrong_content(self, body):
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
        with raw_server(answering(head, body)) as port:
            error = failing(f"http://127.0.0.1:{port}")
        assert "something else than the protocol's message" in str(error) and error.lasting

    def test_not_http(self):
        with raw_server(answering(b"SSH-2.0-OpenSSH_9.2\r\n")) as port:
            error = failing(f"http://127.0.0.1:{port}")
        assert "does not answer as an HTTP server does" in str(error) and error.lasting

    def test_an_endless_head(self):
        with raw_server(answering(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000)) as port:
            failing(f"http://127.0.0.1:{port}")

    @pytest.mark.parametrize("announced", [True, False])
    def test_a_huge_answer_is_not_read(self, announced):
        length = b"Content-Length: 99999999999\r\n" if announced else b""

        def talk(connection):
            read_request(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n")
            while True:
                connection.sendall(bytes(65536))

        with raw_server(talk) as port:
            error = failing(f"http://127.0.0.1:{port}", max_answer=100_000)
        assert "more than 100000 bytes" in str(error) and error.lasting

    @pytest.mark.parametrize(
        ("status", "what", "lasting"),
        [
            ("404 Not Found", "HTTP status 404: oh no", True),
            ("500 Client", "HTTP status 500", True),
            ("503 Busy", "HTTP status 503", False),
            (
                "302 Found\r\nLocation: http://elsewhere/",
                "a redirect to http://elsewhere/, which is not followed",
                True,
            ),
            ("307 Moved\r\nLocation: /b", "a redirect to /b", True),
        ],
    )
    def test_other_statuses(self, status, what, lasting):
        head = f"HTTP/1.1 {status}\r\nContent-Length: 7\r\n\r\n".encode()
        with raw_server(answering(head, b"oh\r\n no")) as port:
            error = failing(f"http://127.0.0.1:{port}")
        assert what in str(error)
        assert error.lasting is lasting
        assert ("URL prefix" in error.hint) == status.startswith("404")

    def test_the_transport_works_on_after_failures(self):
        coordinator, _ = server()
        losses = {1: "request", 2: "answer"}
        with StandInServer(coordinator, lose=lambda endpoint, number: losses.get(number)) as there:
            with http(there.url) as transport:
                for _ in losses:
                    with pytest.raises(TransportError):
                        transport.send(ASK, T0)
                assert transport.send(ASK, T0).retcode == ResponseCode.SUC_NOT_READY
            assert transport.traffic.requests == 1
