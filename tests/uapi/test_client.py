"""The client against scripted servers, and against ours."""

import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from errno import (
    EADDRINUSE,
    ECONNREFUSED,
    EINVAL,
    ENOENT,
    EOPNOTSUPP,
    EPERM,
    EPROTO,
    ETIMEDOUT,
)
from pathlib import Path

import pytest

from tests.uapi.fake import many_peers
from wgpy.protocol.config import InterfaceChange, InterfaceStats, PeerStats, Secret
from wgpy.uapi import client, listener
from wgpy.uapi.paths import is_live, live_names, socket_path
from wgpy.uapi.text import format_get, format_set, get_lines

PATIENCE = 20.0


@contextmanager
def answering(directory: Path, serve: Callable[[socket.socket], None]) -> Iterator[None]:
    """`serve` gets each connection that is made to wg0."""

    def accept() -> None:
        with suppress(OSError):
            while True:
                stream, _ = waiting.accept()
                with stream:
                    serve(stream)

    with listener.listen("wg0", directory) as waiting:
        thread = threading.Thread(target=accept)
        thread.start()
        yield
        waiting.shutdown(socket.SHUT_RDWR)
        thread.join()


def saying(answer: str, heard: list[str] | None = None) -> Callable[[socket.socket], None]:
    def serve(stream: socket.socket) -> None:
        request = b""
        while not request.endswith(b"\n\n"):
            request += stream.recv(1 << 16)
        if heard is not None:
            heard.append(request.decode())
        stream.sendall(answer.encode())

    return serve


def test_get_asks_and_reads_the_answer(tmp_path: Path) -> None:
    stats = InterfaceStats(Secret(b"k" * 32), listen_port=5, peers=(PeerStats(b"p" * 32),))
    heard: list[str] = []
    with answering(tmp_path, saying(format_get(stats), heard)):
        assert client.get("wg0", directory=tmp_path) == stats
    assert heard == ["get=2\n\n"]


def test_get_tells_drops_by_reason(tmp_path: Path) -> None:
    peer = PeerStats(b"p" * 32, drops={"bad-tag": 3, "replayed": 1})
    stats = InterfaceStats(peers=(peer,), drops={"bad-mac1": 7, "bad-tag": 3, "replayed": 1})
    answer = "".join(get_lines(stats, drops=True))
    with answering(tmp_path, saying(answer, [])):
        assert client.get("wg0", directory=tmp_path) == stats


def test_set_sends_the_whole_change(tmp_path: Path) -> None:
    change = many_peers(3000)
    heard: list[str] = []
    with answering(tmp_path, saying("errno=0\n\n", heard)):
        client.set("wg0", change, directory=tmp_path)
    assert heard == [format_set(change)]


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        (f"errno=-{EADDRINUSE}\n\n", EADDRINUSE),
        (f"errno={EINVAL}\n\n", EINVAL),
        ("", EPROTO),
        ("\n\n", EPROTO),
        ("nonsense\n\n", EPROTO),
        ("errno=x\n\n", EINVAL),
    ],
)
def test_an_answer_that_is_no_success_is_an_error_with_the_path(
    tmp_path: Path, answer: str, number: int
) -> None:
    with answering(tmp_path, saying(answer)), pytest.raises(OSError) as caught:
        client.set("wg0", InterfaceChange(fwmark=1), directory=tmp_path)
    assert caught.value.errno == number
    assert caught.value.filename == str(socket_path("wg0", tmp_path))
    with answering(tmp_path, saying(answer)), pytest.raises(OSError) as caught:
        client.get("wg0", directory=tmp_path)
    assert caught.value.errno == number


def test_a_request_refused_before_its_end_is_told_with_the_reason(tmp_path: Path) -> None:
    def refuse(stream: socket.socket) -> None:
        stream.recv(10)
        stream.sendall(f"errno=-{EINVAL}\n\n".encode())

    with answering(tmp_path, refuse), pytest.raises(OSError) as caught:
        client.set("wg0", many_peers(10_000), directory=tmp_path)
    assert caught.value.errno == EINVAL


def test_a_silent_interface_is_given_up(tmp_path: Path) -> None:
    with listener.listen("wg0", tmp_path), pytest.raises(OSError) as caught:
        client.get("wg0", timeout=0.05, directory=tmp_path)
    assert caught.value.errno == ETIMEDOUT
    assert "no answer within 0.05 seconds" in str(caught.value)


def test_an_interface_that_drips_is_given_up_too(tmp_path: Path) -> None:
    given_up = threading.Event()

    def drip(stream: socket.socket) -> None:
        while not given_up.wait(0.01):
            stream.sendall(b"fwmark=1\n")

    with answering(tmp_path, drip):
        try:
            with pytest.raises(OSError) as caught:
                client.get("wg0", timeout=0.1, directory=tmp_path)
        finally:
            given_up.set()
    assert caught.value.errno == ETIMEDOUT


def test_where_nobody_serves_is_told_apart_by_errno(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught:
        client.get("wg0", directory=tmp_path)
    assert caught.value.errno == ENOENT
    listener.listen("wg0", tmp_path).close()
    with pytest.raises(OSError) as caught:
        client.get("wg0", directory=tmp_path)
    assert caught.value.errno == ECONNREFUSED


def test_only_served_sockets_are_listed(tmp_path: Path) -> None:
    assert live_names(tmp_path / "missing") == []
    listener.listen("stale", tmp_path).close()
    (tmp_path / "file.sock").touch()
    with listener.listen("wg1", tmp_path), listener.listen("wg0", tmp_path):
        assert live_names(tmp_path) == ["wg0", "wg1"]
        assert is_live(socket_path("wg0", tmp_path))
    assert live_names(tmp_path) == []


def test_keys_come_whole_or_not_yet(tmp_path: Path) -> None:
    go_on = threading.Event()

    def serve(stream: socket.socket) -> None:
        assert stream.recv(100) == b"keys=1\n\n"
        stream.sendall(b"errno=0\n\nA = 1\nB = 2\n\nC = 3\n\nD")
        go_on.wait(PATIENCE)
        stream.sendall(b" = 4\n\n")
        stream.recv(1)

    with answering(tmp_path, serve):
        reader = client.KeyReader("wg0", directory=tmp_path)
        assert told(reader) == b"A = 1\nB = 2\nC = 3\n"
        assert reader.read() == b""
        go_on.set()
        assert told(reader) == b"D = 4\n"
        reader.close()


@pytest.mark.parametrize(("answer", "number"), [("", EOPNOTSUPP), (f"errno=-{EPERM}\n\n", EPERM)])
def test_who_tells_no_keys_is_an_error(answer: str, number: int, tmp_path: Path) -> None:
    def serve(stream: socket.socket) -> None:
        stream.recv(100)
        stream.sendall(answer.encode())

    with answering(tmp_path, serve), pytest.raises(OSError) as caught:
        client.KeyReader("wg0", directory=tmp_path)
    assert caught.value.errno == number and str(tmp_path) in str(caught.value)


def told(reader: client.KeyReader) -> bytes:
    """What comes next."""
    select.select([reader.fileno()], [], [], PATIENCE)
    return reader.read()
