"""Our tools against the real wg(8), both on the same socket of a fake interface (needs root)."""

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest

from tests.tools.stats import BARE, ZERO_KEY_ONLY, answer
from tests.tools.wgconf import ACCEPTED, KEY, PEER, REFUSED, REFUSED_BY_US_ONLY, SERVICES
from wgpy.tools.fields import FIELDS
from wgpy.uapi.listener import listen
from wgpy.uapi.paths import socket_path

pytestmark = pytest.mark.system

WGPY = [sys.executable, "-m", "wgpy"]


class FakeInterface:
    """Answers get=1 with a text and keeps every set=1 it is sent."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.answer = BARE
        self.requests: list[str] = []
        self._path = socket_path(name)
        # It listens before it has its name, as the wg of another test would take it for stale.
        self._listener = listen(name)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client, client.makefile("rw", newline="\n") as stream:
                # A probe whether somebody listens comes and goes without a word.
                request = "".join(takewhile(lambda line: line.strip(), stream))
                try:
                    if request.startswith("get=1"):
                        stream.write(self.answer)
                    elif request.startswith("set=1"):
                        self.requests.append(request)
                        stream.write("errno=0\n\n")
                    stream.flush()
                except BrokenPipeError:
                    pass

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._path.unlink()
        self._thread.join()


@pytest.fixture
def fake() -> Iterator[FakeInterface]:
    interface = FakeInterface(f"tlo{os.getpid()}")
    yield interface
    interface.close()


def run(program: list[str], *words: str, text: str = "", **more: str) -> tuple[int, str, str]:
    environment = os.environ | {"WG_ENDPOINT_RESOLUTION_RETRIES": "0"} | more
    done = subprocess.run(
        [*program, *words],
        check=False,
        capture_output=True,
        text=True,
        input=text,
        env=environment,
        timeout=30,
    )
    return done.returncode, done.stdout, done.stderr


def both(*words: str, text: str = "", **more: str) -> tuple[tuple[int, str, str], ...]:
    return run(["wg"], *words, text=text, **more), run(WGPY, *words, text=text, **more)


@pytest.mark.parametrize("text", [f"{KEY}\n", KEY, f"{'A' * 43}=", "", "x", f"{KEY}x", f" {KEY}"])
def test_pubkey_is_that_of_wg(text: str) -> None:
    theirs, ours = both("pubkey", text=text)
    assert ours[:2] == theirs[:2]
    assert len(ours[2].splitlines()) == bool(ours[0])


def test_each_takes_the_keys_of_the_other() -> None:
    for _ in range(3):
        for maker in (["wg"], WGPY):
            _, key, _ = run(maker, "genkey")
            theirs, ours = both("pubkey", text=key)
            assert ours == theirs and ours[0] == 0


@pytest.mark.parametrize("text", [answer(int(time.time())), BARE, ZERO_KEY_ONLY])
def test_show_prints_what_wg_prints(fake: FakeInterface, text: str) -> None:
    fake.answer = text
    for colour in ("always", "never"):
        for hide in ("never", "always"):
            more = {"WG_COLOR_MODE": colour, "WG_HIDE_KEYS": hide}
            for _ in range(3):
                theirs, ours = both("show", fake.name, **more)
                # A second may have begun between the two.
                if ours == theirs:
                    break
            assert ours == theirs
    for words in [("showconf", fake.name), *(("show", fake.name, field) for field in FIELDS)]:
        theirs, ours = both(*words)
        assert ours == theirs, words


@pytest.mark.parametrize("field", FIELDS)
def test_show_all_prefixes_as_wg_does(fake: FakeInterface, field: str) -> None:
    fake.answer = answer(int(time.time()))
    (_, plain, _), _ = both("show", fake.name, field)
    (_, theirs, _), (_, ours, _) = both("show", "all", field)
    found = [line for line in ours.splitlines() if line.startswith(fake.name)]
    assert found == [f"{fake.name}\t{line}" for line in plain.splitlines()] and found
    # wg of Debian 12 forgets the prefix of all endpoints but the first.
    if field != "endpoints":
        assert found == [line for line in theirs.splitlines() if line.startswith(fake.name)]


def normal(requests: list[str]) -> list[str]:
    """Without bits beyond a prefix, which wg leaves to be cleared, and scopes by their index."""
    import ipaddress

    def network(match: re.Match[str]) -> str:
        return f"allowed_ip={ipaddress.ip_network(match[1], strict=False)}"

    return [
        re.sub(r"allowed_ip=(\S+)", network, request.replace("%lo]", "%1]")) for request in requests
    ]


@pytest.mark.parametrize("command", ["setconf", "addconf"])
@pytest.mark.parametrize("text", [*ACCEPTED.values(), *SERVICES], ids=repr)
def test_a_file_asks_for_what_wg_asks(
    fake: FakeInterface, tmp_path: Path, command: str, text: str
) -> None:
    (tmp_path / "x.conf").write_text(text, newline="")
    theirs, ours = both(command, fake.name, str(tmp_path / "x.conf"))
    assert theirs[0] == ours[0] == 0, (theirs, ours)
    first, second = normal(fake.requests)
    assert first == second


@pytest.mark.parametrize("text", [text for text, _ in REFUSED.values()], ids=REFUSED)
def test_a_file_that_wg_refuses_changes_nothing(
    fake: FakeInterface, tmp_path: Path, text: str
) -> None:
    (tmp_path / "x.conf").write_text(text, newline="")
    theirs, ours = both("setconf", fake.name, str(tmp_path / "x.conf"))
    assert theirs[0] == ours[0] == 1
    assert fake.requests == []
    assert len(ours[2].splitlines()) == 1 and ours[2].startswith(f"wgpy: {tmp_path}/x.conf:")


@pytest.mark.parametrize("text", REFUSED_BY_US_ONLY)
def test_where_we_are_stricter_than_wg(fake: FakeInterface, tmp_path: Path, text: str) -> None:
    (tmp_path / "x.conf").write_text(text, newline="")
    theirs, ours = both("setconf", fake.name, str(tmp_path / "x.conf"))
    assert (theirs[0], ours[0], len(fake.requests)) == (0, 1, 1)


SETS = [
    ["listen-port", "5"],
    ["listen-port", "5", "listen-port", "6"],
    ["fwmark", "off"],
    ["private-key", "/dev/null"],
    ["private-key", "KEYFILE"],
    ["peer", PEER],
    ["peer", PEER, "remove"],
    ["peer", PEER, "remove", "endpoint", "1.1.1.1:1"],
    ["peer", PEER, "allowed-ips", ""],
    ["peer", PEER, "allowed-ips", "1.1.1.1, 2.2.2.2/8", "allowed-ips", "3.3.3.3"],
    ["peer", PEER, "preshared-key", "KEYFILE", "endpoint", "[::1]:4"],
    ["peer", PEER, "persistent-keepalive", "off", "peer", KEY, "persistent-keepalive", "7"],
    ["peer", PEER, "peer", PEER, "remove"],
]
BAD_SETS = [
    [],
    ["listen-port"],
    ["listen-port", "x"],
    ["peer"],
    ["peer", "x"],
    ["peer", PEER, "listen-port", "1"],
    ["peer", PEER, "private-key", "KEYFILE"],
    ["peer", PEER, "persistent-keepalive", "x"],
    ["peer", PEER, "endpoint", "x"],
    ["endpoint", "1.1.1.1:1"],
    ["private-key", "/nowhere"],
    ["private-key", "/tmp"],
    ["PEER", PEER],
    ["allowed-ips", "::/0"],
]


def with_key_file(words: list[str], directory: Path) -> list[str]:
    (directory / "key").write_text(f"{KEY}\n")
    return [str(directory / "key") if word == "KEYFILE" else word for word in words]


@pytest.mark.parametrize("words", SETS, ids=" ".join)
def test_arguments_ask_for_what_wg_asks(
    fake: FakeInterface, tmp_path: Path, words: list[str]
) -> None:
    theirs, ours = both("set", fake.name, *with_key_file(words, tmp_path))
    assert theirs[0] == ours[0] == 0, (theirs, ours)
    first, second = normal(fake.requests)
    assert first == second


@pytest.mark.parametrize("words", BAD_SETS, ids=" ".join)
def test_arguments_that_wg_refuses_change_nothing(
    fake: FakeInterface, tmp_path: Path, words: list[str]
) -> None:
    theirs, ours = both("set", fake.name, *with_key_file(words, tmp_path))
    assert theirs[0] == ours[0] == 1
    assert fake.requests == [] and len(ours[2].splitlines()) == 1


@pytest.mark.parametrize(
    "words",
    [
        ["show", "tlnone"],
        ["showconf", "tlnone"],
        ["set", "tlnone", "listen-port", "1"],
        ["setconf", "tlnone", "/dev/null"],
        ["addconf", "tlnone", "/dev/null"],
        ["syncconf", "tlnone", "/dev/null"],
        ["setconf", "tlnone"],
        ["show", "tlnone", "foo"],
        ["show", "interfaces", "x"],
        ["genkey", "x"],
    ],
    ids=" ".join,
)
def test_the_exit_status_is_that_of_wg(words: list[str]) -> None:
    theirs, ours = both(*words)
    assert theirs[0] == ours[0] == 1
    assert ours[1] == "" and len(ours[2].splitlines()) == 1 and ours[2].startswith("wgpy: ")
