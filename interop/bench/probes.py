"""What is measured, in the order in which it is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from interop.bench import measure
from interop.bench.limits import bare_ends, is_no_tunnel
from interop.bench.peers import (
    WINDOW,
    Run,
    handshakes_per_second,
    hub,
    idle_cpu,
    memory_with,
    milliseconds_to_start,
    new_lab,
    ping_at_hub,
    seconds_to_configure,
    start_under_load,
    two_peers,
)
from interop.bench.result import Kind
from interop.counterparts.base import Implementation
from interop.tunnel import End, tunnel

_SECONDS = 3
# Of each of several transfers.
_TRANSFER_SECONDS = 2
_JUMBO = 8920


@dataclass(frozen=True)
class Line:
    """One line of the result."""

    key: str
    name: str
    unit: str
    more_is_better: bool = True


@dataclass(frozen=True)
class Probe:
    """One run, and the lines that its values fill."""

    lines: list[Line]
    run: Run
    mtu: int | None = None
    """The inner MTU, where it is not the one of the whole benchmark."""
    also: Sequence[Kind] = ()
    """For which pairs besides whole ones."""


def on_a_tunnel(run: Callable[[End, End], list[float]]) -> Run:
    """Measure with two ends that have a session and an iperf3 server at the right one."""

    def whole(left: Implementation, right: Implementation, mtu: int) -> list[float]:
        with new_lab() as lab:
            a, b = bare_ends(lab) if is_no_tunnel(left) else tunnel(lab, left, right, mtu=mtu)
            a.ping(b)
            with measure.iperf_server(b):
                return run(a, b)

    return whole


def _stream(a: End, b: End) -> list[float]:
    """Megabits a second of one stream, and the CPU seconds of both ends for 10^9 bytes."""
    if is_no_tunnel(a.implementation):
        return [measure.tcp(a, b, 1, _SECONDS).rate / 1e6, float("nan")]
    before = [measure.usage(measure.pid(end)).cpu for end in (a, b)]
    done = measure.tcp(a, b, 1, _SECONDS)
    used = sum(measure.usage(measure.pid(end)).cpu for end in (a, b)) - sum(before)
    return [done.rate / 1e6, used / done.carried * 1e9]


def _ping(a: End, b: End) -> list[float]:
    latency = measure.ping(a, b, 300)
    return [latency.p50, latency.p99]


def _ping_loaded(a: End, b: End) -> list[float]:
    latency = measure.ping_beside_transfers(a, [b], 1, _SECONDS + 1)
    return [latency.p50, latency.p99]


def _tcp(
    streams: int, *, back: bool = False, jumbo: bool = False, also: Sequence[Kind] = ()
) -> Probe:
    key, name = f"tcp-{streams}", f"TCP, {streams} stream" + "s" * (streams > 1)
    if back:
        key, name = f"{key}-back", f"{name}, other way"
    run = on_a_tunnel(lambda a, b: [measure.tcp(a, b, streams, _SECONDS, back).rate / 1e6])
    return _probe(key, name, "Mbit/s", run, jumbo, also)


def _udp(size: int, *, also: Sequence[Kind] = ()) -> Probe:
    run = on_a_tunnel(lambda a, b: [measure.udp(a, b, size, 0, 2).delivered / 1e3])
    return _probe(f"udp-{size}", f"UDP {size} B, overload", "1000/s", run, False, also)


def _udp_clean(size: int, *, jumbo: bool = False, also: Sequence[Kind] = ()) -> Probe:
    run = on_a_tunnel(lambda a, b: [measure.udp_without_loss(a, b, size, 1) / 1e3])
    name = f"UDP {size} B, under 1 % lost"
    return _probe(f"udp-{size}-clean", name, "1000/s", run, jumbo, also)


def _probe(key: str, name: str, unit: str, run: Run, jumbo: bool, also: Sequence[Kind]) -> Probe:
    if jumbo:
        key, name = f"{key}-jumbo", f"{name}, MTU {_JUMBO}"
    return Probe([Line(key, name, unit)], run, _JUMBO if jumbo else None, also)


def _memory(peers: int) -> Probe:
    key = "memory" if peers == 1 else f"memory-{peers}"
    name = "memory under load, " + ("1 peer" if peers == 1 else f"{peers:,} peers")
    return Probe([Line(key, name, "MB", False)], memory_with(peers))


PROBES = [
    Probe(
        [
            Line("tcp-1", "TCP, 1 stream", "Mbit/s"),
            Line("cpu", "CPU for a gigabyte, both ends", "s", False),
        ],
        on_a_tunnel(_stream),
        also=("mixed", "limit"),
    ),
    _tcp(1, back=True, also=("mixed",)),
    _tcp(4, also=("mixed", "limit")),
    _tcp(4, back=True, also=("mixed",)),
    _tcp(16, also=("mixed",)),
    _tcp(16, back=True, also=("mixed",)),
    _tcp(1, jumbo=True),
    _tcp(1, back=True, jumbo=True),
    _tcp(4, jumbo=True),
    _tcp(16, jumbo=True),
    _udp_clean(1372, jumbo=True),
    Probe(
        [Line("hub", "TCP, 16 peers with 4 streams each", "Mbit/s")],
        lambda left, right, mtu: hub(left, mtu, _SECONDS),
        also=("workers",),
    ),
    Probe(
        [Line("hub-cubic", "TCP, 16 peers with 4 streams each, cubic", "Mbit/s")],
        lambda left, right, mtu: hub(left, mtu, _SECONDS, "cubic"),
        also=("workers",),
    ),
    Probe(
        [
            Line("hub-ping", "ping beside 16 peers' 64 streams, p50", "ms", False),
            Line("hub-ping-99", "ping beside 16 peers' 64 streams, p99", "ms", False),
            Line("hub-ping-back", "its echoes that come back", "%"),
        ],
        lambda left, right, mtu: ping_at_hub(left, mtu, 2 * _SECONDS),
        also=("workers",),
    ),
    Probe(
        [
            Line("two-peers", "TCP, 2 peers with 8 streams each", "Mbit/s"),
            Line("busiest", "its busiest process, CPU for a gigabyte", "s", False),
        ],
        lambda left, right, mtu: two_peers(left, mtu, _TRANSFER_SECONDS),
        also=("workers",),
    ),
    _udp(64, also=("mixed", "limit")),
    _udp(512, also=("mixed",)),
    _udp(1372, also=("mixed",)),
    _udp_clean(64, also=("mixed",)),
    _udp_clean(512, also=("mixed",)),
    _udp_clean(1372, also=("mixed",)),
    Probe(
        [
            Line("ping", "ping alone, p50", "ms", False),
            Line("ping-99", "ping alone, p99", "ms", False),
        ],
        on_a_tunnel(_ping),
        also=("mixed", "limit"),
    ),
    Probe(
        [
            Line("ping-loaded", "ping beside TCP, p50", "ms", False),
            Line("ping-loaded-99", "ping beside TCP, p99", "ms", False),
        ],
        on_a_tunnel(_ping_loaded),
        also=("mixed",),
    ),
    Probe(
        [Line("handshakes", f"handshakes answered, {WINDOW} under way", "1/s")],
        handshakes_per_second(2000),
    ),
    Probe(
        [Line("start", "100 peers start at once, all answered", "ms", False)],
        milliseconds_to_start(100),
    ),
    Probe(
        [
            Line("start-loaded", "1,000 peers start at once, all answered", "s", False),
            Line("cookies", "of them sent back with a cookie first", "peers", False),
        ],
        start_under_load(1000),
    ),
    _memory(1),
    _memory(100),
    _memory(1000),
    _memory(10_000),
    Probe([Line("configure", "10,000 peers configured", "s", False)], seconds_to_configure(10_000)),
    Probe([Line("idle", "idle CPU, 1,000 peers", "ms/s", False)], idle_cpu(1000)),
]

LINES = [line for probe in PROBES for line in probe.lines]
