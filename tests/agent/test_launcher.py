"""The launcher's socket and words; daemons are real in tests/system."""

import asyncio
import os
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.launcher import Launcher, listen
from agent.launcherclient import LauncherClient
from agent.network.base import NetworkError


@contextmanager
def _serving(path: Path) -> Iterator[LauncherClient]:
    """A launcher in a thread of its own."""
    loop = asyncio.new_event_loop()
    ended = asyncio.Event()
    listening = listen(path)
    thread = threading.Thread(
        target=lambda: loop.run_until_complete(Launcher().serve(listening, ended))
    )
    thread.start()
    try:
        yield LauncherClient(path)
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)
        loop.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "wgpy" / "dataplane.sock"


def test_its_socket_is_for_its_owner_alone(path: Path) -> None:
    with listen(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_second_launcher_is_refused_and_the_first_goes_on(path: Path) -> None:
    with _serving(path) as client:
        with pytest.raises(OSError, match="another process serves it"):
            listen(path)
        assert client.daemons() == {}


def test_a_socket_that_nobody_serves_is_replaced(path: Path) -> None:
    listen(path).close()
    with _serving(path) as client:
        assert client.daemons() == {}


def test_what_is_not_known_is_refused_and_the_next_request_is_served(path: Path) -> None:
    with _serving(path) as client:
        for words in ({"do": "dance"}, {"do": "start"}, {"do": "start", "name": 1}, {}):
            with pytest.raises(NetworkError, match="not known|a request is"):
                client._ask(words)
        assert client.daemons() == {}


def test_a_daemon_of_others_is_not_ended(path: Path) -> None:
    with (
        _serving(path) as client,
        pytest.raises(NetworkError, match="wgpy0: its daemon was not started here"),
    ):
        client.end("wgpy0")


def test_a_name_that_is_no_interface_is_refused(path: Path) -> None:
    with _serving(path) as client:
        for name in ("", "../etc", "a b", "x" * 16):
            with pytest.raises(NetworkError, match="is not an interface name"):
                client.start(name)


def test_garbage_ends_only_the_connection_it_came_on(path: Path) -> None:
    with _serving(path) as client:
        for garbage in (b"\xff\x00\n", b"[" * 100 + b"\n", b"x" * 10_000, b"{"):
            with socket.socket(socket.AF_UNIX) as stream:
                stream.connect(os.fspath(path))
                stream.sendall(garbage)
        assert client.daemons() == {}


def test_a_launcher_that_is_not_there_is_told_with_advice(path: Path) -> None:
    with pytest.raises(NetworkError, match=r"No such file.*wgpy-agent dataplane"):
        LauncherClient(path).probe()
