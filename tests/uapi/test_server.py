"""The server on a real socket in a private directory, with a fake device behind it."""

import asyncio
import logging
import os
import socket
import stat
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from errno import EADDRINUSE, ECONNREFUSED, EINVAL, EIO, EPERM, EPROTO
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.uapi.fake import FakeDevice, many_peers
from wgpy.protocol.config import ConfigError, InterfaceChange
from wgpy.uapi import listener
from wgpy.uapi import server as server_module
from wgpy.uapi.lines import LINE_LIMIT
from wgpy.uapi.paths import is_live, socket_path
from wgpy.uapi.server import UapiServer
from wgpy.uapi.text import format_get, format_set

KEY = "ab" * 32
OK = "errno=0\n\n"
# Long enough for a busy machine; only a broken server takes as long.
PATIENCE = 20.0


def run(test: Coroutine[Any, Any, None]) -> None:
    uvloop.run(asyncio.wait_for(test, PATIENCE))


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def ask(self, text: str) -> str:
        """Send, and wait for one answer; what came so far if the server closes."""
        self.writer.write(text.encode("latin-1"))
        await self.writer.drain()
        return await self.answer()

    async def answer(self) -> str:
        try:
            return (await self._reader.readuntil(b"\n\n")).decode()
        except asyncio.IncompleteReadError as error:
            return error.partial.decode()

    async def rest(self) -> str:
        return (await self._reader.read()).decode()


class Served:
    def __init__(self, path: Path, device: FakeDevice) -> None:
        self.path = path
        self.device = device
        self.deleted = asyncio.Event()

    async def connect(self) -> Client:
        return Client(*await asyncio.open_unix_connection(self.path, limit=1 << 26))


@asynccontextmanager
async def served(directory: Path, device: FakeDevice | None = None) -> AsyncIterator[Served]:
    found = Served(socket_path("wg0", directory), device or FakeDevice())
    server = UapiServer(
        listener.listen("wg0", directory), found.path, found.device, found.deleted.set
    )
    await server.start()
    try:
        yield found
    finally:
        await server.close()


def test_several_operations_follow_one_another_on_one_connection(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as found:
            client = await found.connect()
            assert await client.ask("get=1\n\n") == OK
            assert await client.ask("set=1\nlisten_port=5\n\n") == OK
            assert await client.ask("get=1\n\n") == "listen_port=5\n" + OK
            # All at once, answered in order.
            text = await client.ask("set=1\nfwmark=7\n\nget=1\n\nset=1\n\n")
            assert text + await client.answer() + await client.answer() == (
                OK + "listen_port=5\nfwmark=7\n" + OK + OK
            )

    run(test())


def test_a_request_may_come_byte_by_byte(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as found:
            client = await found.connect()
            for character in "set=1\nlisten_port=5\n":
                client.writer.write(character.encode())
                await asyncio.sleep(0)
            assert await client.ask("\n") == OK
            assert found.device.changes == [InterfaceChange(listen_port=5)]

    run(test())


def test_nothing_is_applied_before_the_empty_line(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as found:
            half = await found.connect()
            half.writer.write(b"set=1\nlisten_port=5\n")
            other = await found.connect()
            assert await other.ask("get=1\n\n") == OK
            half.writer.write_eof()
            assert await half.rest() == f"errno={-EIO}\n\n"
            gone = await found.connect()
            gone.writer.write(b"set=1\nlisten_port=5\n")
            gone.writer.transport.abort()
            assert await other.ask("get=1\n\n") == OK
            assert found.device.changes == []

    run(test())


@pytest.mark.parametrize(
    ("request_text", "number"),
    [
        ("set=1\nlisten_port=5\nlisten_port=x\nfwmark=1\n\n", EINVAL),
        ("set=1\nlisten_port=5\nnonsense=1\n\n", EINVAL),
        ("set=1\nlisten_port=5\nnonsense\n\n", EPROTO),
        (f"set=1\nlisten_port=5\npublic_key={KEY}\nallowed_ip=1.2.3.4/33\n\n", EINVAL),
        ("set=1\n\xff\xfe=\x00\n\n", EINVAL),
        ("get=1\nlisten_port=5\n\n", EINVAL),
        ("what=1\nlisten_port=5\n\n", EPROTO),
        ("set=1 \n\n", EPROTO),
    ],
)
def test_a_refused_request_changes_nothing_and_the_next_one_is_served(
    tmp_path: Path, request_text: str, number: int
) -> None:
    async def test() -> None:
        async with served(tmp_path) as found:
            client = await found.connect()
            assert await client.ask(request_text) == f"errno={-number}\n\n"
            assert await client.ask("set=1\nfwmark=1\n\n") == OK
            assert found.device.changes == [InterfaceChange(fwmark=1)]

    run(test())


def test_a_mistake_is_answered_before_the_request_ends(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as found:
            client = await found.connect()
            assert await client.ask("set=1\nlisten_port=x\n") == f"errno={-EINVAL}\n\n"

    run(test())


def test_what_the_device_refuses_is_answered_and_logged_without_keys(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with served(tmp_path) as found:
            found.device.error = ConfigError("cannot listen on UDP port 5", EADDRINUSE)
            client = await found.connect()
            text = f"set=1\nprivate_key={KEY}\nlisten_port=5\n\n"
            assert await client.ask(text) == f"errno={-EADDRINUSE}\n\n"
            found.device.error = None
            assert await client.ask(f"set=1\nprivate_key={KEY}0\n\n") == f"errno={-EINVAL}\n\n"
            assert await client.ask(text) == OK

    with caplog.at_level(logging.DEBUG):
        run(test())
    assert "cannot listen on UDP port 5" in caplog.text
    assert "abab" not in caplog.text


@pytest.mark.parametrize("end", ["", "\n\n"])
def test_a_line_without_end_is_refused_and_the_connection_closed(tmp_path: Path, end: str) -> None:
    async def test() -> None:
        async with served(tmp_path) as found:
            client = await found.connect()
            answer = await client.ask("set=1\nlisten_port=" + "0" * LINE_LIMIT + end)
            assert answer == f"errno={-EINVAL}\n\n"
            assert await client.rest() == ""

    run(test())


def test_a_request_without_end_is_refused_and_the_connection_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wgpy.uapi.lines.REQUEST_LIMIT", 1000)

    async def test() -> None:
        async with served(tmp_path) as found:
            client = await found.connect()
            assert await client.ask("set=1\n" + "fwmark=1\n" * 200) == f"errno={-EINVAL}\n\n"
            assert await client.rest() == ""
            again = await found.connect()
            for _ in range(20):
                # The limit is for each request, not for the connection.
                assert await again.ask("set=1\n" + "fwmark=1\n" * 50 + "\n") == OK

    run(test())


def test_a_client_that_does_not_read_holds_up_nobody(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as found:
            found.device.configure(many_peers(2000))
            stuck = await found.connect()
            stuck.writer.transport.pause_reading()  # type: ignore[attr-defined]
            stuck.writer.write(b"get=1\n\n" * 10)
            half = await found.connect()
            half.writer.write(b"set=1\n")
            others = [await found.connect() for _ in range(20)]
            answers = await asyncio.gather(*(other.ask("get=1\n\n") for other in others))
            assert set(answers) == {format_get(found.device.snapshot())}

    run(test())


def test_concurrent_changes_are_each_applied_as_a_whole(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as found:
            clients = [await found.connect() for _ in range(10)]
            request = "set=1\nlisten_port={0}\n" + "fwmark={0}\n" * 2000 + "\n"
            await asyncio.gather(
                *(client.ask(request.format(n)) for n, client in enumerate(clients))
            )
            assert len(found.device.changes) == 10
            assert all(change.listen_port == change.fwmark for change in found.device.changes)

    run(test())


def test_the_answer_is_of_one_moment(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as found:
            found.device.configure(many_peers(2000))
            before = format_get(found.device.snapshot())
            client = await found.connect()
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            client.writer.write(b"get=1\n\n")
            other = await found.connect()
            await other.ask("get=1\n\n")
            assert await other.ask("set=1\nreplace_peers=true\n\n") == OK
            client.writer.transport.resume_reading()  # type: ignore[attr-defined]
            assert await client.answer() == before

    run(test())


@pytest.mark.parametrize("count", [1000, 10_000])
def test_the_loop_turns_while_many_peers_are_set_and_got(tmp_path: Path, count: int) -> None:
    change = many_peers(count)
    request = format_set(change)

    async def test() -> None:
        async with served(tmp_path) as found:
            found.device.configure(change)
            answer = format_get(found.device.snapshot())
            client = await found.connect()
            turns: list[float] = []
            watching = asyncio.create_task(_watch_loop(turns))
            start = time.perf_counter()
            assert await client.ask(request) == OK
            middle, turns_of_set = time.perf_counter(), len(turns)
            assert await client.ask("get=1\n\n") == answer
            end, turns_of_get = time.perf_counter(), len(turns) - turns_of_set
            watching.cancel()
            assert found.device.changes[-1] == change
            # For the benefit of pytest -rP.
            print(f"{count} peers: set {middle - start:.3f} s, get {end - middle:.3f} s")
            print(f"longest turn {max(turns) * 1000:.1f} ms")
            assert turns_of_set > len(request) / 10_000
            assert turns_of_get > len(answer) / 40_000

    run(test())


async def _watch_loop(turns: list[float]) -> None:
    while True:
        before = time.perf_counter()
        await asyncio.sleep(0)
        turns.append(time.perf_counter() - before)


def test_the_socket_is_private_from_birth_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with listener.listen("wg0", tmp_path / "new"):
            assert stat.S_IMODE(os.stat(tmp_path / "new").st_mode) == 0o700
            mode = os.stat(socket_path("wg0", tmp_path / "new")).st_mode
            assert stat.S_IMODE(mode) == 0o600
    finally:
        os.umask(before)


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    listener.listen("wg0", tmp_path).close()
    assert socket_path("wg0", tmp_path).exists()
    listener.listen("wg0", tmp_path).close()


def test_no_moment_of_its_birth_looks_stale(tmp_path: Path) -> None:
    path, born = socket_path("wg0", tmp_path), threading.Event()

    def clean_up_as_wg_does() -> None:
        while not born.is_set():
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(str(path)) == ECONNREFUSED:
                    path.unlink(missing_ok=True)

    cleaner = threading.Thread(target=clean_up_as_wg_does)
    cleaner.start()
    try:
        for _ in range(500):
            with listener.listen("wg0", tmp_path):
                assert is_live(path)
                path.unlink()
    finally:
        born.set()
        cleaner.join()


def test_a_live_socket_is_refused_with_its_path(tmp_path: Path) -> None:
    with listener.listen("wg0", tmp_path):
        with pytest.raises(OSError, match="another process serves this interface") as caught:
            listener.listen("wg0", tmp_path)
        assert caught.value.errno == EADDRINUSE
        assert caught.value.filename == str(socket_path("wg0", tmp_path))
        listener.listen("wg1", tmp_path).close()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    socket_path("wg0", tmp_path).write_text("precious")
    with pytest.raises(FileExistsError, match="not a socket"):
        listener.listen("wg0", tmp_path)
    assert socket_path("wg0", tmp_path).read_text() == "precious"


def test_an_inherited_listener_is_served(tmp_path: Path) -> None:
    async def test() -> None:
        theirs = socket.socket(socket.AF_UNIX)
        theirs.bind(str(socket_path("wg0", tmp_path)))
        theirs.listen()
        listening, path = listener.from_fd(theirs.detach())
        assert path == socket_path("wg0", tmp_path)
        server = UapiServer(listening, path, FakeDevice(), lambda: None)
        await server.start()
        reader, writer = await asyncio.open_unix_connection(socket_path("wg0", tmp_path))
        assert await Client(reader, writer).ask("get=1\n\n") == OK
        await server.close()

    run(test())


def test_a_descriptor_that_is_no_listener_is_refused_and_stays_open(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    client = socket.socket(socket.AF_UNIX)
    for fd in (reading, client.fileno()):
        with pytest.raises(OSError):
            listener.from_fd(fd)
        os.fstat(fd)
    os.close(reading)
    os.close(writing)
    client.close()


def test_deleting_the_socket_file_is_noticed(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as found:
            found.path.unlink()
            await found.deleted.wait()

    run(test())


def test_replacing_the_socket_file_is_noticed_and_the_new_one_left_alone(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as found:
            # At once, so that the new file may get the number of the old one.
            found.path.unlink()
            found.path.write_text("another's")
            await found.deleted.wait()
        assert found.path.read_text() == "another's"

    run(test())


def test_moving_the_socket_file_or_its_directory_away_is_noticed(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path / "a") as found:
            found.path.rename(tmp_path / "a" / "elsewhere.sock")
            await found.deleted.wait()
        async with served(tmp_path / "b") as found:
            (tmp_path / "b").rename(tmp_path / "c")
            await found.deleted.wait()

    run(test())


def test_what_happens_to_other_files_or_to_the_mode_is_not_taken_for_a_deletion(
    tmp_path: Path,
) -> None:
    async def test() -> None:
        async with served(tmp_path) as found:
            found.path.chmod(0o660)
            listener.listen("wg1", tmp_path).close()
            socket_path("wg1", tmp_path).unlink()
            client = await found.connect()
            for _ in range(10):
                assert await client.ask("get=1\n\n") == OK
            assert not found.deleted.is_set()

    run(test())


def test_closing_removes_the_file_and_ends_connections(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as found:
            idle = await found.connect()
            assert await idle.ask("get=1\n\n") == OK
        assert not found.path.exists()
        assert await idle.rest() == ""

    run(test())


def test_keys_are_told_as_they_come_until_the_client_leaves(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as found:
            client = await found.connect()
            assert await client.ask("keys=1\n\n") == OK
            await until(lambda: len(found.device.key_readers) == 1)
            found.device.key_readers[0](b"A = 1\nB = 2\n")
            found.device.key_readers[0](b"C = 3\n")
            assert await client.answer() == "A = 1\nB = 2\n\n"
            assert await client.answer() == "C = 3\n\n"
            client.writer.close()
            await until(lambda: not found.device.key_readers)

    run(test())


def test_keys_are_for_root_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_user_of", lambda writer: 1000)

    async def test() -> None:
        async with served(tmp_path) as found:
            client = await found.connect()
            assert await client.ask("keys=1\n\n") == f"errno={-EPERM}\n\n"
            assert await client.ask("get=1\n\n") == OK
            assert found.device.key_readers == []

    run(test())


def test_a_client_that_does_not_read_its_keys_is_given_up(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as found:
            client = await found.connect()
            client.writer.write(b"keys=1\n\n")
            await until(lambda: len(found.device.key_readers) == 1)
            reading: Any = client.writer.transport
            reading.pause_reading()
            while found.device.key_readers:
                for write in found.device.key_readers:
                    write(b"x" * 65536)
                await asyncio.sleep(0)

    run(test())


async def until(condition: Callable[[], bool]) -> None:
    """`run` bounds the wait."""
    while not condition():
        await asyncio.sleep(0.01)
