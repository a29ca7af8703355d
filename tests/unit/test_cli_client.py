import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tasks.client import Client, DaemonSilent, quote, target
from tasks.errors import ApiError, DaemonNotRunning

Serve = Callable[..., Client]


@pytest.fixture
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """A client of a server that gives each connection these pieces, one send each, and closes."""
    path = tmp_path_factory.mktemp("s") / "s"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    threads: list[threading.Thread] = []

    def start(*pieces: bytes, timeout: float = 10.0, close: bool = True) -> Client:
        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                for piece in pieces:
                    connection.sendall(piece)
                if not close:
                    connection.recv(1)

        threads.append(threading.Thread(target=answer))
        threads[-1].start()
        return Client(str(path), timeout)

    yield start
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    listener.close()


def test_a_body_of_known_length_is_read_whole(serve: Serve) -> None:
    assert serve(b"HTTP/1.1 200 OK\r\nContent-", b"Length: 5\r\n\r\nab", b"cde").fetch("/") == b"abcde"


def test_a_chunked_body_is_put_together(serve: Serve) -> None:
    client = serve(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r", b"\n2;x=y\r\nd", b"e\r\n0\r\n\r\n"
    )
    assert client.fetch("/") == b"abcde"


def test_a_body_without_a_length_ends_with_the_connection(serve: Serve) -> None:
    assert serve(b"HTTP/1.1 200 OK\r\n\r\nab", b"cde").fetch("/") == b"abcde"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nab",
    ],
)
def test_an_answer_that_breaks_off_is_no_answer(serve: Serve, answer: bytes) -> None:
    with pytest.raises(DaemonNotRunning, match="broke off"):
        serve(answer).fetch("/")


def test_the_reason_of_a_refusal_is_told(serve: Serve) -> None:
    body = b'{"detail":"no session has the id x"}'
    with pytest.raises(ApiError, match=r"^no session has the id x$"):
        serve(b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)).fetch("/")


def test_what_did_not_validate_is_named(serve: Serve) -> None:
    body = b'{"detail":[{"loc":["query","limit"],"msg":"too small"}]}'
    with pytest.raises(ApiError, match=r"^limit: too small$"):
        serve(b"HTTP/1.1 422 No\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)).fetch("/")


def test_a_missing_socket_means_that_no_daemon_runs(tmp_path: Path) -> None:
    with pytest.raises(DaemonNotRunning, match="tasksd up"):
        Client(str(tmp_path / "none")).fetch("/")


def test_a_daemon_that_hangs_is_told_from_one_that_is_gone(serve: Serve) -> None:
    client = serve(timeout=0.2, close=False)
    with pytest.raises(DaemonSilent, match="does not answer"):
        client.fetch("/")


def test_a_stream_gives_the_data_of_each_event_as_it_comes(serve: Serve) -> None:
    def chunk(data: bytes) -> bytes:
        return b"%x\r\n%s\r\n" % (len(data), data)

    client = serve(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunk(b": tasksd\n\nid: 1\ndata: {\"a\""),
        chunk(b":1}\n\n"), chunk(b"event: x\ndata: 2\n\n"), b"0\r\n\r\n",
    )  # fmt: skip
    assert list(client.follow("/")) == [b'{"a":1}', b"2"]


def test_targets_are_encoded_and_leave_out_what_is_not_asked() -> None:
    assert target("/v1/x") == "/v1/x"
    assert target("/v1/x", a="ü &/", b=None, c=True, d=3) == "/v1/x?a=%C3%BC%20%26%2F&c=true&d=3"
    assert quote("a-b_c.d~e\udcff") == "a-b_c.d~e%FF"
