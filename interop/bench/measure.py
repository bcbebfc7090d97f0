"""One number each, of a tunnel that is up: throughput, packets a second, latency, memory, CPU.

Loads come from iperf3 and ping, so that they are the same for everyone.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interop.counterparts.userspace import Daemon
from interop.shell import CommandFailed, ScenarioFailed, wait_until
from interop.tunnel import End

_IPERF_PORT = 5201
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """What a process has used: CPU seconds so far, resident and peak memory now (bytes)."""

    cpu: float
    resident: int
    peak: int


def usage(pid: int) -> Usage:
    """Of one process, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = Path(f"/proc/{pid}/status").read_text()
    kilobytes = {
        key: int(value) for key, value in re.findall(r"^(Vm\w+):\s+(\d+) kB", status, re.MULTILINE)
    }
    cpu = (int(fields[11]) + int(fields[12])) / _TICKS
    return Usage(cpu, kilobytes["VmRSS"] * 1024, kilobytes["VmHWM"] * 1024)


def cpu_of_threads(pid: int) -> float:
    """CPU seconds so far of the threads that a process has now; to the nanosecond, not the tick."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def pid(end: End) -> int:
    """The process that carries an end's packets."""
    assert isinstance(end.running, Daemon)
    return end.running.process.pid


def usage_of_children(parent: int) -> dict[int, float]:
    """CPU seconds so far of a process and of its children, by process."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return {pid: usage(pid).cpu for pid in (parent, *map(int, children))}


@contextlib.contextmanager
def iperf_server(end: End) -> Iterator[None]:
    """An iperf3 server at one end, as long as the context lasts."""
    with (end.lab.directory / "iperf3-server.log").open("ab") as output:
        server = end.namespace.start("iperf3", "-s", "-p", str(_IPERF_PORT), output=output)

    def listening() -> bool:
        return f":{_IPERF_PORT} " in end.namespace.run("ss", "-Hltn")

    try:
        wait_until("iperf3 listens", listening, 10)
        yield
    finally:
        server.terminate()
        server.wait(5)


def _iperf(client: End, server: End, words: str, seconds: int) -> dict[str, Any]:
    argv = f"iperf3 -J -c {server.inner()} -p {_IPERF_PORT} -t {seconds} {words}".split()
    text = client.namespace.run(*argv, timeout=seconds + 30)
    report: dict[str, Any] = json.loads(text)
    return report


@dataclass(frozen=True)
class Transfer:
    """What TCP did after a second of warming up, and what was paid for in all."""

    rate: float
    """Bits a second that arrived."""
    carried: float
    """Bytes, those of the second of warming up among them: they cost as much."""


def tcp(
    client: End,
    server: End,
    streams: int,
    seconds: int,
    reverse: bool = False,
    congestion: str = "",
) -> Transfer:
    """Over all streams together; `congestion` control is the machine's if none is named."""
    words = f"-P {streams} -O 1" + (" -R" if reverse else "")
    if congestion:
        words += f" -C {congestion}"
    return transfer(_iperf(client, server, words, seconds))


def transfer(report: dict[str, Any]) -> Transfer:
    """What a report of iperf3 says."""
    rate = float(report["end"]["sum_received"]["bits_per_second"])
    # Its sums leave the warming up out, its intervals do not.
    return Transfer(rate, sum(interval["sum"]["bytes"] for interval in report["intervals"]))


def tcp_to_all(
    client: End, servers: list[End], streams: int, seconds: int, congestion: str = ""
) -> Transfer:
    """To all servers at once, `streams` to each."""

    def to(server: End) -> Transfer:
        return tcp(client, server, streams, seconds, congestion=congestion)

    with concurrent.futures.ThreadPoolExecutor(len(servers)) as pool:
        found = list(pool.map(to, servers))
    return Transfer(sum(one.rate for one in found), sum(one.carried for one in found))


@dataclass(frozen=True)
class Udp:
    """Packets a second: offered and delivered; and the share that was lost."""

    offered: float
    delivered: float

    @property
    def loss(self) -> float:
        return 1 - self.delivered / self.offered if self.offered else 1.0


def udp(client: End, server: End, size: int, rate: float, seconds: int) -> Udp:
    """Send `rate` packets a second of `size` bytes of payload; 0: as many as it can."""
    bits = rate * size * 8
    report = _iperf(client, server, f"-u -l {size} -b {bits:.0f} --get-server-output", seconds)
    total = report["end"]["sum"]
    packets, lost = total["packets"], total["lost_packets"]
    return Udp(packets / total["seconds"], max(0, packets - lost) / total["seconds"])


def udp_without_loss(client: End, server: End, size: int, seconds: int) -> float:
    """The most packets a second that arrive with under 1 % lost, found by bisection."""
    low, high = 0.0, udp(client, server, size, 0, seconds).offered
    best = 0.0
    for _ in range(6):
        rate = (low + high) / 2
        result = udp(client, server, size, rate, seconds)
        if result.loss < 0.01:
            low, best = rate, max(best, result.delivered)
        else:
            high = rate
    return best


@dataclass(frozen=True)
class Latency:
    """Round trips in milliseconds."""

    p50: float
    p99: float
    lost: int
    sent: int


def ping(client: End, server: End, count: int, interval: float = 0.01) -> Latency:
    """`count` echoes, `interval` seconds apart."""
    argv = f"ping -n -c {count} -i {interval} -W 2 {server.inner()}".split()
    try:
        text = client.namespace.run(*argv, timeout=count * interval + 30)
    except CommandFailed as error:
        raise ScenarioFailed(f"ping: {error}") from None
    times = sorted(float(t) for t in re.findall(r"time=([\d.]+) ms", text))
    if not times:
        raise ScenarioFailed("no echo came back")
    return Latency(
        times[len(times) // 2],
        times[min(len(times) - 1, len(times) * 99 // 100)],
        count - len(times),
        count,
    )


def ping_beside_transfers(
    client: End, servers: list[End], streams: int, seconds: int, before: float = 0.0
) -> Latency:
    """Echoes of the first server while TCP streams to all of them fill the tunnel.

    They begin `before` seconds earlier, and end a second later.
    """
    loads: list[subprocess.Popen[bytes]] = []
    with (client.lab.directory / "iperf3-load.log").open("ab") as output:
        try:
            for server in servers:
                words = f"-c {server.inner()} -p {_IPERF_PORT} -P {streams} -t {seconds}"
                loads.append(client.namespace.start("iperf3", *words.split(), output=output))
            time.sleep(before)
            return ping(client, servers[0], int((seconds - before - 1) / 0.01))
        finally:
            for load in loads:
                load.wait(seconds + 10)
