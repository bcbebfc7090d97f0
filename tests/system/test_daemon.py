"""The daemon as a process: its life, its environment, its options, under good and bad traffic."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from interop.counterparts.userspace import Daemon, Userspace
from interop.netns import Lab, Namespace
from interop.shell import CommandFailed, run, wait_until
from interop.tunnel import PORT, End, bare_pair, tunnel
from interop.wire import capture
from tests.system.carried import bulk
from wgpy.device.sizes import QUEUES

pytestmark = pytest.mark.system

_COMMAND = f"{sys.executable} -m wgpy"
_SOCKETS = Path("/var/run/wireguard")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path) as lab:
        yield lab


def _wgpy(options: str = "") -> Userspace:
    return Userspace("wgpy", f"{_COMMAND} {options}".strip())


def _pid(end: End) -> int:
    assert isinstance(end.running, Daemon)
    return end.running.process.pid


def _status_at_its_end(end: End) -> int:
    """Wait for a daemon that a test has ended."""
    assert isinstance(end.running, Daemon)
    status = end.running.process.wait(5)
    # The lab need not stop it any more.
    end.running.crash()
    return status


def _shown(end: End) -> dict[str, object]:
    """`wgpy show IFACE --json`."""
    text = run(sys.executable, "-m", "wgpy", "show", end.interface, "--json")
    shown: dict[str, object] = json.loads(text)[end.interface]
    return shown


def drops(end: End) -> dict[str, int]:
    drops = _shown(end).get("drops", {})
    assert isinstance(drops, dict)
    return drops


# Life.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_nothing_is_left(lab: Lab, number: int) -> None:
    a, _ = tunnel(lab, _wgpy(), _wgpy())
    os.kill(_pid(a), number)
    assert _status_at_its_end(a) == 0
    assert not (_SOCKETS / f"{a.interface}.sock").exists()
    assert a.interface not in a.namespace.ip("link show")


def test_deleting_its_socket_ends_it(lab: Lab) -> None:
    a, _ = tunnel(lab, _wgpy(), _wgpy())
    (_SOCKETS / f"{a.interface}.sock").unlink()
    assert _status_at_its_end(a) == 0
    assert a.interface not in a.namespace.ip("link show")


def test_deleting_its_interface_ends_it(lab: Lab) -> None:
    a, _ = tunnel(lab, _wgpy(), _wgpy())
    a.namespace.ip(f"link delete {a.interface}")
    assert _status_at_its_end(a) == 0
    assert not (_SOCKETS / f"{a.interface}.sock").exists()


def test_in_the_background_it_returns_when_it_is_ready(lab: Lab) -> None:
    namespace = lab.namespace("back")
    name = lab.interface_name("d")
    namespace.run(*_COMMAND.split(), name)
    try:
        # Without waiting: the command has returned.
        assert "interface: " + name in namespace.run("wg", "show", name)
        assert name in namespace.ip("link show")
    finally:
        (_SOCKETS / f"{name}.sock").unlink()
    wait_until("the daemon ends", lambda: name not in namespace.ip("link show"), 5)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lo", "cannot make interface lo"),
        ("sixteen-letters-x", "an interface name has 1 to 15 bytes"),
        ("a/b", "a/b"),
    ],
)
def test_a_bad_name_is_refused_in_one_line(lab: Lab, name: str, words: str) -> None:
    namespace = lab.namespace("bad")
    done = subprocess.run(
        ["ip", "netns", "exec", namespace.name, *_COMMAND.split(), name],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 1
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (_SOCKETS / f"{name}.sock").exists()


def test_a_name_that_is_served_is_refused(lab: Lab) -> None:
    a, _ = tunnel(lab, _wgpy(), _wgpy())
    done = subprocess.run(
        [*_COMMAND.split(), a.interface], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 1
    assert "another process serves this interface" in done.stderr
    a.namespace.run("wg", "show", a.interface)


def test_inherited_descriptors_are_used(lab: Lab) -> None:
    namespace = lab.namespace("fds")
    name = lab.interface_name("i")
    starter = (
        "import fcntl, os, socket, struct, sys\n"
        "name = sys.argv[1]\n"
        "tun = os.open('/dev/net/tun', os.O_RDWR)\n"
        "fcntl.ioctl(tun, 0x400454CA, struct.pack('16sH22x', name.encode(), 0x5001))\n"
        "uapi = socket.socket(socket.AF_UNIX)\n"
        "os.makedirs('/var/run/wireguard', exist_ok=True)\n"
        "uapi.bind(f'/var/run/wireguard/{name}.sock')\n"
        "uapi.listen()\n"
        "os.set_inheritable(tun, True)\n"
        "os.set_inheritable(uapi.fileno(), True)\n"
        "os.environ.update(WG_TUN_FD=str(tun), WG_UAPI_FD=str(uapi.fileno()),\n"
        "                  WG_PROCESS_FOREGROUND='1')\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'wgpy', name])\n"
    )
    with (lab.directory / "fds.log").open("wb") as log:
        child = namespace.start(sys.executable, "-c", starter, name, output=log)
    wait_until("wg answers", lambda: _answers(namespace, name), 10)
    namespace.ip(f"link set {name} up")
    child.terminate()
    assert child.wait(5) == 0
    assert name not in namespace.ip("link show")


def _answers(namespace: Namespace, name: str) -> bool:
    shown = subprocess.run(["wg", "show", name], capture_output=True, check=False)
    return shown.returncode == 0 and name in namespace.ip("link show")


def test_an_empty_log_level_is_none(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "")
    a, b = tunnel(lab, _wgpy(), _wgpy())
    a.ping(b)
    assert (lab.directory / f"{a.interface}.log").read_text() == ""


def test_a_lasting_interface_with_one_queue_is_taken_as_well(lab: Lab) -> None:
    a, b = bare_pair(lab, _wgpy(), _wgpy(), 1420, 1500)
    a.namespace.ip(f"tuntap add {a.interface} mode tun")
    for end in (a, b):
        end.join()
    a.add_peer(b, 4)
    b.add_peer(a)
    assert a.ping_many(b, 20, 0.01) == 0
    assert "multi_queue" not in a.namespace.ip(f"-d link show {a.interface}")
    # One that is made has several, and no queue discipline, as the kernel's.
    assert f"multi_queue numqueues {QUEUES}" in b.namespace.ip(f"-d link show {b.interface}")
    assert "qdisc noqueue" in b.namespace.ip(f"link show {b.interface}")


def test_no_key_can_be_read_from_outside(lab: Lab) -> None:
    unprivileged = "setpriv --bounding-set=-sys_ptrace"
    a, b = tunnel(lab, Userspace("wgpy", f"{unprivileged} {_COMMAND}"), _wgpy())
    a.ping(b)
    pid = _pid(a)
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert "Max core file size        0                    0" in limits
    # Not dumpable: the same user with the same capabilities may look at any other process.
    look = f"{unprivileged} readlink /proc/{{}}/exe"
    with subprocess.Popen([*unprivileged.split(), "sleep", "60"]) as other:
        run(*look.format(other.pid).split())
        other.kill()
    with pytest.raises(CommandFailed, match="readlink"):
        run(*look.format(pid).split())
    secret = a.keys.private.strip().encode()
    for name in ("cmdline", "environ"):
        assert secret not in Path(f"/proc/{pid}/{name}").read_bytes()
    for log in lab.directory.glob("*.log"):
        assert secret not in log.read_bytes()
    assert (_SOCKETS / f"{a.interface}.sock").stat().st_mode & 0o777 == 0o600


# What passes.


@pytest.mark.parametrize("mtu", [1280, 1420, 8920, 65455])
def test_all_mtus_carry_tcp_and_full_packets(lab: Lab, mtu: int) -> None:
    a, b = tunnel(lab, _wgpy(), _wgpy(), mtu=mtu)
    for end, peer in ((a, b), (b, a)):
        end.ping(peer, more=f"-M do -s {mtu - 28}")
        bulk(end, peer, 4)


# Changes under traffic.


def test_a_new_listen_port_is_followed_with_the_next_packet(lab: Lab) -> None:
    a, b = tunnel(lab, _wgpy(), _wgpy())
    a.ping(b)
    for port in (PORT + 1, PORT + 2, PORT):
        a.configure(f"listen-port {port}")
        a.ping(b)
        assert b.show("endpoints", a) == f"{a.outer()}:{port}"
    bulk(a, b, 4)
    bulk(b, a, 4)


def test_a_port_that_is_taken_is_refused_and_nothing_changes(lab: Lab) -> None:
    a, b = tunnel(lab, _wgpy(), _wgpy())
    with a.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("0.0.0.0", PORT + 7))
        done = subprocess.run(
            ["wg", "set", a.interface, "listen-port", str(PORT + 7)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode != 0
    assert "Address already in use" in done.stderr
    a.ping(b)
    assert f"listening port: {PORT}" in a.namespace.run("wg", "show", a.interface)


def test_sends_that_fail_are_survived_and_counted(lab: Lab) -> None:
    a, b = tunnel(lab, _wgpy(), _wgpy())
    a.ping(b)
    # ENETUNREACH, then EPERM.
    a.namespace.ip("route flush table main")
    a.namespace.ip(f"route add 10.90.0.0/24 dev {a.interface}")
    assert not a.reaches(b)
    unreachable = drops(a)["send-error"]
    assert unreachable
    a.namespace.ip("route add 10.80.0.0/24 dev eth0")
    a.ping(b)
    rules = (
        "table inet t { chain c { type filter hook output priority 0; udp dport 51820 drop; }; }"
    )
    a.namespace.run("nft", "-f", "-", stdin=rules)
    assert not a.reaches(b)
    assert drops(a)["send-error"] > unreachable
    a.namespace.run("nft", "flush", "ruleset")
    a.ping(b)


def test_link_down_and_up_again_makes_a_new_session(lab: Lab) -> None:
    a, b = tunnel(lab, _wgpy(), _wgpy())
    a.ping(b)
    a.namespace.ip(f"link set {a.interface} down")
    # Silence: even the port is closed.
    assert f":{PORT} " not in a.namespace.run("ss", "-Huln")
    a.namespace.ip(f"link set {a.interface} up")
    # Right may hold the second initiation for a flood, if it was quick: then comes another.
    a.ping(b, within=8)


# Rest, and load.


def test_an_idle_interface_with_a_thousand_peers_uses_no_cpu(lab: Lab) -> None:
    a, b = tunnel(lab, _wgpy(), _wgpy())
    keys = [os.urandom(32) for _ in range(1000)]
    peers = "".join(
        f"[Peer]\nPublicKey = {base64.b64encode(key).decode()}\n"
        f"AllowedIPs = 10.{91 + i // 250}.{i % 250}.0/24\nEndpoint = 192.0.2.1:9\n"
        for i, key in enumerate(keys)
    )
    started = time.monotonic()
    a.namespace.run("wg", "addconf", a.interface, "/dev/stdin", stdin=peers)
    assert time.monotonic() - started < 10
    a.ping(b)
    assert len(a.namespace.run("wg", "show", a.interface, "peers").split()) == 1001
    # The keepalive after ten seconds of silence has passed by then.
    time.sleep(12)
    before = _cpu(_pid(a))
    time.sleep(5)
    assert _cpu(_pid(a)) - before <= 0.02


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_hundred_thousand_bad_datagrams_during_a_transfer_change_nothing(lab: Lab) -> None:
    chance = random.Random(7)
    a, b = tunnel(lab, _wgpy(), _wgpy())
    with capture(b.namespace, lab.directory) as seen:
        a.ping(b)
        a.ping(b)
    good = [message.payload for message in seen.messages()]
    attacker = a.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
    count = 100_000
    child = os.fork()
    if child == 0:
        try:
            for k in range(count):
                attacker.sendto(_bad(good, chance, k), (b.outer(), PORT))
                if k % 100 == 0:
                    time.sleep(0.002)
        finally:
            os._exit(0)
    bulk(a, b, 200)
    bulk(b, a, 50)
    assert os.waitpid(child, 0)[1] == 0
    attacker.close()
    a.ping(b)
    dropped = sum(drops(b).values())
    lost = _buffer_errors(b)
    # Each was counted, by us or by the kernel whose buffer was full.
    assert count - 10 <= dropped + lost
    assert dropped <= count + 100
    assert b.show("endpoints", a) == a.endpoint()
    log = (lab.directory / f"{b.interface}.log").read_text()
    assert "Traceback" not in log


def _buffer_errors(end: End) -> int:
    """Datagrams that the kernel dropped because the socket's buffer was full."""
    names, values = [
        line.split()
        for line in end.namespace.run("cat", "/proc/net/snmp").splitlines()
        if line.startswith("Udp:")
    ]
    return int(values[names.index("RcvbufErrors")])


def _bad(good: list[bytes], chance: random.Random, k: int) -> bytes:
    """Truncated, bit-flipped, replayed, with a wrong index, random."""
    message = bytearray(chance.choice(good))
    match k % 5:
        case 0:
            return bytes(message[: chance.randrange(len(message))])
        case 1:
            message[chance.randrange(len(message))] ^= 1 << chance.randrange(8)
        case 2:
            pass
        case 3:
            message[4:8] = chance.randbytes(4)
        case 4:
            return chance.randbytes(chance.randrange(1500))
    return bytes(message)
