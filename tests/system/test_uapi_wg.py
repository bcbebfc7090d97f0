"""The real wg(8) against our UAPI server with the core behind it; no TUN is needed (needs root)."""

import asyncio
import base64
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from wgpy.protocol.config import ConfigError, InterfaceChange, InterfaceStats
from wgpy.protocol.interface import Interface
from wgpy.uapi import listener
from wgpy.uapi.paths import socket_path
from wgpy.uapi.server import UapiServer

pytestmark = pytest.mark.system

NAME = f"tu{os.getpid()}"
PRIVATE_KEY = base64.b64encode(b"\x40" * 32).decode()
PATIENCE = 60.0


def peer_key(number: int) -> str:
    return base64.b64encode(number.to_bytes(32, "big")).decode()


class Core:
    """What a device does with configuration, without packets."""

    def __init__(self) -> None:
        self._interface = Interface(os.urandom, time.time_ns)

    def configure(self, change: InterfaceChange) -> None:
        if change.fwmark == 0xBAD:
            raise ConfigError("not this one", 28)
        self._interface.configure(change, time.monotonic())

    def snapshot(self) -> InterfaceStats:
        return self._interface.snapshot()

    def follow_keys(self, write: Callable[[bytes], None]) -> Callable[[], None]:
        raise NotImplementedError


class Daemon:
    """A server on an event loop of its own thread."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self.ended = threading.Event()
        self._thread = threading.Thread(target=lambda: uvloop.run(self._serve()))
        self._thread.start()
        assert self._ready.wait(PATIENCE)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        server = UapiServer(listener.listen(NAME), socket_path(NAME), Core(), self._end.set)
        await server.start()
        self._ready.set()
        await self._end.wait()
        await server.close()
        self.ended.set()

    def close(self) -> None:
        if not self.ended.is_set():
            self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(PATIENCE)


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    daemon = Daemon()
    yield daemon
    daemon.close()
    assert not socket_path(NAME).exists()


def wg(*arguments: str) -> str:
    done = subprocess.run(
        ["wg", *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def dump() -> list[list[str]]:
    return [line.split("\t") for line in wg("show", NAME, "dump").splitlines()]


def config(tmp_path: Path, text: str) -> str:
    path = tmp_path / "wg.conf"
    path.write_text(text)
    path.chmod(0o600)
    return os.fspath(path)


def test_wg_finds_the_interface_by_its_socket(daemon: Daemon) -> None:
    assert NAME in wg("show", "interfaces").split()
    # wg(8) prints what userspace does not tell as nothing.
    assert dump() == [["(none)", "(none)", "0", "off"]]


def test_wg_set_and_show_agree(daemon: Daemon, tmp_path: Path) -> None:
    key, psk = tmp_path / "key", tmp_path / "psk"
    key.write_text(PRIVATE_KEY)
    psk.write_text(peer_key(99))
    wg("set", NAME, "private-key", str(key), "listen-port", "51820", "fwmark", "0x1234",
       "peer", peer_key(1), "preshared-key", str(psk), "endpoint", "192.0.2.1:5",
       "persistent-keepalive", "25", "allowed-ips", "10.0.0.1/32,fd00::/64",
       "peer", peer_key(2), "endpoint", "[fe80::1%lo]:7", "allowed-ips", "0.0.0.0/0")  # fmt: skip
    public_key = subprocess.run(
        ["wg", "pubkey"], input=PRIVATE_KEY, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert dump() == [
        [PRIVATE_KEY, public_key, "51820", "0x1234"],
        [peer_key(1), peer_key(99), "192.0.2.1:5", "10.0.0.1/32,fd00::/64", "0", "0", "0", "25"],
        [peer_key(2), "(none)", "[fe80::1%lo]:7", "0.0.0.0/0", "0", "0", "0", "off"],
    ]
    wg("set", NAME, "fwmark", "0", "peer", peer_key(1), "preshared-key", "/dev/null",
       "persistent-keepalive", "off", "allowed-ips", "0.0.0.0/0")  # fmt: skip
    assert dump() == [
        [PRIVATE_KEY, public_key, "51820", "off"],
        [peer_key(1), "(none)", "192.0.2.1:5", "0.0.0.0/0", "0", "0", "0", "off"],
        [peer_key(2), "(none)", "[fe80::1%lo]:7", "(none)", "0", "0", "0", "off"],
    ]
    wg("set", NAME, "private-key", "/dev/null", "peer", peer_key(1), "remove")
    assert [line[0] for line in dump()] == ["(none)", peer_key(2)]


def test_a_peer_with_our_own_key_is_left_out(daemon: Daemon, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(PRIVATE_KEY)
    wg("set", NAME, "private-key", str(key))
    ours = dump()[0][1]
    wg("set", NAME, "peer", ours, "allowed-ips", "::/0")
    assert len(dump()) == 1


def test_setconf_replaces_addconf_adds_and_syncconf_takes_away_what_is_left_out(
    daemon: Daemon, tmp_path: Path
) -> None:
    interface = f"[Interface]\nPrivateKey = {PRIVATE_KEY}\nListenPort = 5\n"
    peer = "[Peer]\nPublicKey = {}\nAllowedIPs = {}\n".format
    wg("setconf", NAME, config(tmp_path, interface + peer(peer_key(1), "10.0.0.1/32")))
    wg("setconf", NAME, config(tmp_path, interface + peer(peer_key(2), "10.0.0.2/32, ::1/128")))
    wg("addconf", NAME, config(tmp_path, peer(peer_key(3), "10.0.0.3/32")))
    assert [line[0] for line in dump()[1:]] == [peer_key(2), peer_key(3)]
    wg("syncconf", NAME, config(tmp_path, interface + peer(peer_key(2), "10.0.0.2/32")))
    assert [(line[0], line[3]) for line in dump()[1:]] == [(peer_key(2), "10.0.0.2/32")]
    assert wg("showconf", NAME).replace("\n\n", "\n").strip() == (
        f"[Interface]\nListenPort = 5\nPrivateKey = {PRIVATE_KEY}\n"
        + peer(peer_key(2), "10.0.0.2/32").strip()
    )


def test_wg_tells_the_errno_that_we_answer(daemon: Daemon) -> None:
    done = subprocess.run(
        ["wg", "set", NAME, "fwmark", "0xbad", "listen-port", "7"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert dump()[0][2:] == ["0", "off"]


def test_removing_the_socket_file_ends_the_daemon(daemon: Daemon) -> None:
    socket_path(NAME).unlink()
    assert daemon.ended.wait(PATIENCE)


@pytest.mark.parametrize("count", [1000, 10_000])
def test_one_setconf_sets_thousands_of_peers(daemon: Daemon, tmp_path: Path, count: int) -> None:
    text = f"[Interface]\nPrivateKey = {PRIVATE_KEY}\n" + "".join(
        f"[Peer]\nPublicKey = {peer_key(n)}\nEndpoint = 192.0.2.1:{n}\n"
        f"AllowedIPs = 10.{n >> 8}.{n & 255}.1/32, fd00::{n:x}/128\n"
        for n in range(9, 9 + count)
    )
    path = config(tmp_path, text)
    start = time.monotonic()
    wg("setconf", NAME, path)
    middle = time.monotonic()
    shown = dump()
    end = time.monotonic()
    print(f"{count} peers: wg setconf {middle - start:.2f} s, wg show dump {end - middle:.2f} s")
    assert len(shown) == 1 + count
    assert shown[-1][0] == peer_key(8 + count)
    wg("syncconf", NAME, path)
    assert dump() == shown
