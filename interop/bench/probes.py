"""What is measured, in the order in which it is told."""

from __future__ import annotations

from collections.abc import Callable
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
    seconds_to_configure,
    start_under_load,
    two_peers,
)
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
    for_all: bool = False
    """Also for mixed pairs, and for what shows how far the limit is."""
    for_workers: bool = False
    """Also for the implementation under test with two workers."""


def on_a_tunnel(run: Callable[[End, End], list[float]]) -> Run:
    """Measure with two ends that have a session and an iperf3 server at the right one."""

    def whole(left: Implementation, right: Implementation, mtu: int) -> list[float]:
        with new_lab() as lab:
            a, b = bare_ends(lab) if is_no_tunnel(left) else tunnel(lab, left, right, mtu=mtu)
            a.ping(b)
            with measure.iperf_server(b):
                return run(a, b)

    return whole


def _tcp(streams: int, *, back: bool = False) -> Run:
    return on_a_tunnel(lambda a, b: [measure.tcp(a, b, streams, _SECONDS, back).rate / 1e6])


def _stream(a: End, b: End) -> list[float]:
    """Megabits a second of one stream, and the CPU seconds of both ends for 10^9 bytes."""
    if is_no_tunnel(a.implementation):
        return [measure.tcp(a, b, 1, _SECONDS).rate / 1e6, float("nan")]
    before = [measure.usage(measure.pid(end)).cpu for end in (a, b)]
    done = measure.tcp(a, b, 1, _SECONDS)
    used = sum(measure.usage(measure.pid(end)).cpu for end in (a, b)) - sum(before)
    return [done.rate / 1e6, used / done.carried * 1e9]


def _udp_overload(size: int) -> Run:
    return on_a_tunnel(lambda a, b: [measure.udp(a, b, size, 0, 2).delivered / 1e3])


def _udp_clean(size: int) -> Run:
    return on_a_tunnel(lambda a, b: [measure.udp_without_loss(a, b, size, 1) / 1e3])


def _ping(a: End, b: End) -> list[float]:
    latency = measure.ping(a, b, 300)
    return [latency.p50, latency.p99]


def _ping_loaded(a: End, b: End) -> list[float]:
    latency = measure.ping_beside_transfer(a, b, _SECONDS + 1)
    return [latency.p50, latency.p99]


def _jumbo_tcp(streams: int) -> Probe:
    line = Line(f"tcp-{streams}-jumbo", f"TCP, {_streams(streams)}, MTU {_JUMBO}", "Mbit/s")
    return Probe([line], _tcp(streams), mtu=_JUMBO)


def _memory(peers: int) -> Probe:
    key = "memory" if peers == 1 else f"memory-{peers}"
    name = "memory under load, " + ("1 peer" if peers == 1 else f"{peers:,} peers")
    return Probe([Line(key, name, "MB", False)], memory_with(peers))


def _streams(number: int) -> str:
    return "1 stream" if number == 1 else f"{number} streams"


PROBES = [
    Probe(
        [
            Line("tcp-1", "TCP, 1 stream", "Mbit/s"),
            Line("cpu", "CPU for a gigabyte, both ends", "s", False),
        ],
        on_a_tunnel(_stream),
        for_all=True,
    ),
    Probe([Line("tcp-1-back", "TCP, 1 stream, other way", "Mbit/s")], _tcp(1, back=True)),
    Probe([Line("tcp-4", "TCP, 4 streams", "Mbit/s")], _tcp(4), for_all=True),
    Probe([Line("tcp-4-back", "TCP, 4 streams, other way", "Mbit/s")], _tcp(4, back=True)),
    Probe([Line("tcp-16", "TCP, 16 streams", "Mbit/s")], _tcp(16)),
    Probe([Line("tcp-16-back", "TCP, 16 streams, other way", "Mbit/s")], _tcp(16, back=True)),
    _jumbo_tcp(1),
    _jumbo_tcp(4),
    Probe(
        [Line("hub", "TCP, 16 peers with 4 streams each", "Mbit/s")],
        lambda left, right, mtu: hub(left, mtu, _SECONDS),
        for_workers=True,
    ),
    Probe(
        [
            Line("two-peers", "TCP, 2 peers with 8 streams each", "Mbit/s"),
            Line("busiest", "its busiest process, CPU for a gigabyte", "s", False),
        ],
        lambda left, right, mtu: two_peers(left, mtu, _TRANSFER_SECONDS),
        for_workers=True,
    ),
    Probe([Line("udp-64", "UDP 64 B, overload", "1000/s")], _udp_overload(64), for_all=True),
    Probe([Line("udp-512", "UDP 512 B, overload", "1000/s")], _udp_overload(512)),
    Probe([Line("udp-1372", "UDP 1372 B, overload", "1000/s")], _udp_overload(1372)),
    Probe([Line("udp-64-clean", "UDP 64 B, under 1 % lost", "1000/s")], _udp_clean(64)),
    Probe([Line("udp-512-clean", "UDP 512 B, under 1 % lost", "1000/s")], _udp_clean(512)),
    Probe([Line("udp-1372-clean", "UDP 1372 B, under 1 % lost", "1000/s")], _udp_clean(1372)),
    Probe(
        [
            Line("ping", "ping alone, p50", "ms", False),
            Line("ping-99", "ping alone, p99", "ms", False),
        ],
        on_a_tunnel(_ping),
        for_all=True,
    ),
    Probe(
        [
            Line("ping-loaded", "ping beside TCP, p50", "ms", False),
            Line("ping-loaded-99", "ping beside TCP, p99", "ms", False),
        ],
        on_a_tunnel(_ping_loaded),
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
