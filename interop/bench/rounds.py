"""Interleaved rounds: every implementation once, then again, so that noise falls on all alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from interop.bench import measure
from interop.bench.peers import Run, new_lab
from interop.counterparts.base import Implementation
from interop.tunnel import End, tunnel


@dataclass(frozen=True)
class Metric:
    """One line of the result."""

    key: str
    name: str
    unit: str
    more_is_better: bool
    run: Run


@dataclass
class Result:
    """All that was measured: metric -> implementation -> one value per round."""

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def add(self, metric: str, implementation: str, value: float) -> None:
        self.values.setdefault(metric, {}).setdefault(implementation, []).append(value)

    def median(self, metric: str, implementation: str) -> float:
        return statistics.median(self.values[metric][implementation])

    def ratios(self, metric: str, implementation: str, against: str) -> list[float]:
        """Per round, so that a machine that slows down for a while slows both."""
        pairs = zip(self.values[metric][implementation], self.values[metric][against], strict=False)
        return [a / b for a, b in pairs if b]


def run_rounds(
    metrics: Iterable[Metric],
    pairs: Iterable[tuple[str, Implementation, Implementation]],
    rounds: int,
    mtu: int,
    say: Callable[[str], None],
) -> Result:
    """Measure each pair of ends (`name`, left, right) with each metric, `rounds` times."""
    result = Result()
    chosen = list(pairs)
    for metric in metrics:
        for number in range(rounds):
            for name, left, right in chosen:
                value = metric.run(left, right, mtu)
                result.add(metric.name, name, value)
                say(
                    f"{metric.name:34} {number + 1}/{rounds}  {name:28} {value:12.5g} {metric.unit}"
                )
    return result


def on_a_tunnel(run: Callable[[End, End], float]) -> Run:
    """Measure with two ends that have a session and an iperf3 server at the right one."""

    def whole(left: Implementation, right: Implementation, mtu: int) -> float:
        with new_lab() as lab:
            a, b = tunnel(lab, left, right, mtu=mtu)
            a.ping(b)
            with measure.iperf_server(b):
                return run(a, b)

    return whole


def tcp(streams: int, seconds: float, reverse: bool = False) -> Run:
    return on_a_tunnel(lambda a, b: measure.tcp(a, b, streams, seconds, reverse) / 1e6)


def cpu_per_gigabyte(seconds: float) -> Run:
    """CPU seconds of both ends' processes for each 10^9 bytes of a TCP stream."""

    def run(a: End, b: End) -> float:
        before = [measure.usage(measure.pid(end)).cpu for end in (a, b)]
        bits = measure.tcp(a, b, 1, seconds)
        used = sum(measure.usage(measure.pid(end)).cpu for end in (a, b)) - sum(before)
        # The second of warming up was paid for, too.
        return used / (bits / 8 * (seconds + 1) / 1e9)

    return on_a_tunnel(run)


def udp_without_loss(size: int, seconds: float) -> Run:
    return on_a_tunnel(lambda a, b: measure.udp_without_loss(a, b, size, seconds) / 1e3)


def udp_overload(size: int, seconds: float) -> Run:
    return on_a_tunnel(lambda a, b: measure.udp(a, b, size, 0, seconds).delivered / 1e3)


def ping_alone(quantile: str, count: int) -> Run:
    return on_a_tunnel(lambda a, b: float(getattr(measure.ping(a, b, count), quantile)))


def ping_loaded(quantile: str, seconds: float) -> Run:
    return on_a_tunnel(
        lambda a, b: float(getattr(measure.ping_beside_transfer(a, b, seconds), quantile))
    )
