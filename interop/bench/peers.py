"""Many peers: what they cost in memory and time, how fast they are met, and traffic with all."""

from __future__ import annotations

import ipaddress
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from interop.bench import measure
from interop.bench.crowd import Crowd, Start, crowd_socket
from interop.counterparts import COUNTERPARTS
from interop.counterparts.base import Implementation
from interop.initiator import new_initiators, responses_per_second
from interop.keys import new_key_pair
from interop.netns import Lab
from interop.shell import ScenarioFailed
from interop.tunnel import PORT, End, ends
from interop.tunnel import hub as hub_of

# One implementation at both ends, or one at each; and the inner MTU.
Run = Callable[[Implementation, Implementation, int], list[float]]

WINDOW = 32
"""Initiations under way: fewer than any implementation calls load."""
_STARTS = 5
_IDLE_SECONDS = 5.0
_HUB_PEERS, _HUB_STREAMS = 16, 4
# Seconds of streams before the first echo.
_HUB_BEFORE = 2.0
_SPOKE = "wireguard-go-sid"
_TRANSFERS = 5
NOTES = (
    f"The 2 or 16 peers of a hub are {_SPOKE}, whatever the hub is.",
    f"With 2 peers, the figure of a round is the median of {_TRANSFERS} transfers in one set-up.",
)
"""What readers of the results are to know."""


@contextmanager
def new_lab() -> Iterator[Lab]:
    with (
        tempfile.TemporaryDirectory(prefix="wgpy-bench-") as directory,
        Lab(Path(directory)) as lab,
    ):
        yield lab


def seconds_to_configure(peers: int) -> Run:
    """`wg setconf` with so many peers, from start to end."""

    def run(left: Implementation, right: Implementation, mtu: int) -> list[float]:
        with new_lab() as lab:
            a, _ = ends(lab, left, right, mtu=mtu)
            return [_configure(a, _keys(peers))]

    return run


def memory_with(peers: int) -> Run:
    """Resident megabytes with so many peers, after a bulk transfer with one of them."""

    def run(left: Implementation, right: Implementation, mtu: int) -> list[float]:
        with new_lab() as lab:
            a, b = ends(lab, left, right, mtu=mtu)
            if peers > 1:
                _configure(a, _keys(peers - 1))
            b.add_peer(a)
            a.add_peer(b, 4)
            a.ping(b)
            with measure.iperf_server(b):
                measure.tcp(a, b, 4, 2)
            return [measure.usage(measure.pid(a)).peak / 1e6]

    return run


def idle_cpu(peers: int) -> Run:
    """CPU milliseconds a second of an interface with so many peers and nothing to do."""

    def run(left: Implementation, right: Implementation, mtu: int) -> list[float]:
        with new_lab() as lab:
            a, _ = ends(lab, left, right, mtu=mtu)
            _configure(a, _keys(peers))
            time.sleep(1)
            before = measure.cpu_of_threads(measure.pid(a))
            time.sleep(_IDLE_SECONDS)
            return [(measure.cpu_of_threads(measure.pid(a)) - before) / _IDLE_SECONDS * 1e3]

    return run


def handshakes_per_second(peers: int) -> Run:
    """Initiations of different peers answered by the right end, so many under way at a time."""

    def run(left: Implementation, right: Implementation, mtu: int) -> list[float]:
        with new_lab() as lab:
            a, b = ends(lab, left, right, mtu=mtu)
            initiators = new_initiators(peers)
            _configure(b, [initiator.public_text for initiator in initiators])
            target = b.keys.public
            messages = [i.initiation(target, k) for k, i in enumerate(initiators, 1)]
            with a.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.connect((b.outer(), PORT))
                return [responses_per_second(sock, messages, WINDOW)]

    return run


def milliseconds_to_start(peers: int) -> Run:
    """So many start at once: until the last of them is answered, the median of some times."""

    def run(left: Implementation, right: Implementation, mtu: int) -> list[float]:
        starts = _starts(left, right, mtu, peers, _STARTS)
        return [statistics.median(start.seconds for start in starts) * 1e3]

    return run


def start_under_load(peers: int) -> Run:
    """So many start at once: seconds until the last is answered; to how many a cookie was sent."""

    def run(left: Implementation, right: Implementation, mtu: int) -> list[float]:
        (start,) = _starts(left, right, mtu, peers, 1)
        return [start.seconds, float(start.cookies)]

    return run


def _starts(
    left: Implementation, right: Implementation, mtu: int, peers: int, times: int
) -> list[Start]:
    """Crowds of new peers of the right end, one after the other."""
    with new_lab() as lab:
        a, b = ends(lab, left, right, mtu=mtu)
        initiators = new_initiators(peers * times)
        _configure(b, [initiator.public_text for initiator in initiators])
        crowds = [Crowd(initiators[k::times], b.keys.public) for k in range(times)]
        with crowd_socket(a.namespace, a.outer(), b.namespace) as sock:
            return [crowd.start(sock, (b.outer(), PORT)) for crowd in crowds]


def hub(center: Implementation, mtu: int, seconds: int, congestion: str = "") -> list[float]:
    """Megabits a second from one interface to 16 peers, 4 streams each, all at once.

    hub ─┬─ spoke 1
         ├─ ...
         └─ spoke 16

    The spokes are of one kind, whatever the hub is: it is the one that is measured.
    """
    with _star(center, mtu, _HUB_PEERS) as (first, others):
        done = measure.tcp_to_all(first, others, _HUB_STREAMS, seconds, congestion)
        return [done.rate / 1e6]


def ping_at_hub(center: Implementation, mtu: int, seconds: int) -> list[float]:
    """Of echoes beside all these streams: milliseconds, p50 and p99, and % that come back."""
    with _star(center, mtu, _HUB_PEERS) as (first, others):
        echoes = measure.ping_beside_transfers(first, others, _HUB_STREAMS, seconds, _HUB_BEFORE)
    return [echoes.p50, echoes.p99, 100 * (1 - echoes.lost / echoes.sent)]


def two_peers(center: Implementation, mtu: int, seconds: int) -> list[float]:
    """Megabits a second to two peers, 8 streams each; and what the hub's busiest process costs.

    Its CPU seconds for 10^9 bytes bound the throughput where all processes have processors. Here
    they share two, and with two workers it is chance who waits for whom: one transfer can cost
    twice as much as the next. So each figure is the median of several.
    """
    with _star(center, mtu, 2) as (first, others):
        found = [_transfer_to_two(first, others, seconds) for _ in range(_TRANSFERS)]
    return [statistics.median(column) for column in zip(*found, strict=True)]


def _transfer_to_two(first: End, others: list[End], seconds: int) -> tuple[float, float]:
    before = measure.usage_of_children(measure.pid(first))
    done = measure.tcp_to_all(first, others, 8, seconds)
    after = measure.usage_of_children(measure.pid(first))
    used = max(cpu - before.get(pid, 0.0) for pid, cpu in after.items())
    return done.rate / 1e6, used / done.carried * 1e9


@contextmanager
def _star(center: Implementation, mtu: int, peers: int) -> Iterator[tuple[End, list[End]]]:
    """A hub and its spokes on one link, each spoke with an iperf3 server."""
    with new_lab() as lab, ExitStack() as servers:
        spoke = COUNTERPARTS[_SPOKE]
        assert isinstance(spoke, Implementation)
        first, others = hub_of(lab, center, spoke, peers, mtu)
        for other in others:
            servers.enter_context(measure.iperf_server(other))
        yield first, others


def _keys(count: int) -> list[str]:
    """Public keys in base64 that nobody has the other half of."""
    known = new_key_pair().public
    # The last characters of a key are not free: 43 of 44 hold 256 bits.
    return [f"{known[:36]}{number:05d}{known[41:]}" for number in range(count)]


def _configure(end: End, keys: list[str]) -> float:
    """Give an end all of these peers at once; seconds that it took."""
    first = int(ipaddress.IPv4Address("10.100.0.0"))
    text = f"[Interface]\nPrivateKey = {end.keys.private}\nListenPort = {PORT}\n" + "".join(
        f"[Peer]\nPublicKey = {key}\nAllowedIPs = {ipaddress.IPv4Address(first + n)}/32\n"
        for n, key in enumerate(keys)
    )
    started = time.monotonic()
    end.namespace.run("wg", "setconf", end.interface, "/dev/stdin", stdin=text)
    took = time.monotonic() - started
    shown = len(end.namespace.run("wg", "show", end.interface, "peers").split())
    if shown != len(keys):
        raise ScenarioFailed(f"{len(keys)} peers were configured, {shown} are there")
    return took
