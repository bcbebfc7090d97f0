"""`--workers`: several processes carry one interface's packets, unseen from outside."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from interop.counterparts.userspace import Daemon, Userspace
from interop.netns import Lab
from interop.shell import run, wait_until
from interop.tunnel import End, hub, tunnel
from tests.system.flows import Flow
from wgpy.device.sizes import QUEUES

pytestmark = pytest.mark.system

_ONE = Userspace("wgpy", f"{sys.executable} -m wgpy")
_THREE = Userspace("wgpy", f"{sys.executable} -m wgpy --workers 3")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path) as lab:
        yield lab


def _pid(end: End) -> int:
    assert isinstance(end.running, Daemon)
    return end.running.process.pid


def _workers(end: End) -> list[int]:
    children = Path(f"/proc/{_pid(end)}/task/{_pid(end)}/children").read_text().split()
    return [int(pid) for pid in children]


def _cpu(pid: int) -> int:
    """Ticks of CPU time."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _figures(end: End, peer: End) -> tuple[int, int]:
    received, sent = end.show("transfer", peer).split()
    return int(received), int(sent)


def test_peers_share_the_processes_and_the_figures_of_both_ends_agree(lab: Lab) -> None:
    center, others = hub(lab, _THREE, _ONE, 3)
    processes = [_pid(center), *_workers(center)]
    assert len(processes) == 3
    before = [_cpu(pid) for pid in processes]
    for words in ("-P 4", "-P 4 -R"):
        flows = [Flow(center, other, 2, words) for other in others]
        for flow in flows:
            flow.result()
    used = [_cpu(pid) - ticks for pid, ticks in zip(processes, before, strict=True)]
    # A peer's flows go where its session is, and the sessions of three peers go to three.
    assert all(ticks > 5 for ticks in used), used
    # What a worker has counted is told a little later.
    for other in others:
        wait_until(
            "both ends agree",
            lambda other=other: _figures(center, other) == _figures(other, center)[::-1],  # type: ignore[misc]
            5,
        )


def test_nothing_is_lost_when_the_port_changes_or_the_other_end_moves(lab: Lab) -> None:
    a, b = tunnel(lab, _THREE, _ONE)
    a.ping(b)
    for port in (51901, 51902):
        a.configure(f"listen-port {port}")
        a.ping(b)
        assert b.show("endpoints", a) == f"{a.outer()}:{port}"
    b.configure("listen-port 51903")
    b.ping(a)
    assert a.ping_many(b, 50, 0.01) == 0
    assert a.show("endpoints", b) == f"{b.outer()}:51903"


def test_a_worker_that_dies_is_replaced_and_traffic_goes_on(lab: Lab) -> None:
    a, b = tunnel(lab, _THREE, _THREE)
    a.ping(b)
    for _ in range(2):
        flow = Flow(b, a, 6, "-P 12")
        time.sleep(1)
        victim = max(_workers(a), key=_cpu)
        os.kill(victim, signal.SIGKILL)
        wait_until(
            "another takes its place",
            lambda gone=victim: len(_workers(a)) == 2 and gone not in _workers(a),  # type: ignore[misc]
            10,
        )
        time.sleep(1)
        moved = _figures(a, b)[0]
        time.sleep(1)
        assert _figures(a, b)[0] > moved + 1_000_000
        flow.result()
        a.ping(b)
        b.ping(a)


def test_each_has_queues_for_streams_and_for_all_else(lab: Lab) -> None:
    a, b = tunnel(lab, _THREE, _ONE)
    a.ping(b)
    assert f"numqueues {3 * QUEUES}" in a.namespace.ip(f"-d link show {a.interface}")
    for pid in _workers(a):
        files = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
        assert files.count("/dev/net/tun") == QUEUES


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_its_device(lab: Lab, number: int) -> None:
    a, b = tunnel(lab, _THREE, _ONE)
    a.ping(b)
    workers = _workers(a)
    assert len(workers) == 2
    os.kill(_pid(a), number)
    wait_until(
        "they end", lambda: not any(Path(f"/proc/{pid}/fd/0").exists() for pid in workers), 5
    )
    wait_until("the interface goes", lambda: a.interface not in a.namespace.ip("link show"), 5)
    assert isinstance(a.running, Daemon)
    a.running.process.wait(5)
    a.running.crash()


def test_a_thousand_peers_reach_all_processes(lab: Lab) -> None:
    a, b = tunnel(lab, _THREE, _ONE)
    known = b.keys.public
    text = "".join(
        f"[Peer]\nPublicKey = {known[:36]}{n:05d}{known[41:]}\n"
        f"AllowedIPs = 10.92.{n >> 8}.{n & 255}/32, fd92::{n:x}/128\n"
        for n in range(1000)
    )
    a.namespace.run("wg", "addconf", a.interface, "/dev/stdin", stdin=text)
    assert len(a.namespace.run("wg", "show", a.interface, "peers").split()) == 1001
    a.ping(b)
    Flow(a, b, 1, "-P 8").result()
    Flow(b, a, 1, "-P 8", version=6).result()


def test_the_process_that_leads_is_told_what_workers_drop(lab: Lab) -> None:
    a, b = tunnel(lab, _THREE, _ONE)
    a.ping(b)
    a.namespace.ip(f"route add 10.99.0.0/24 dev {a.interface}")
    for last in range(12):
        run("ip", "netns", "exec", a.namespace.name, "sh", "-c",
            f"ping -n -c 1 -W 0.1 10.99.0.{last + 1} || true")  # fmt: skip
    wait_until("all are counted", lambda: _dropped(a) >= 12, 5)


def _dropped(end: End) -> int:
    shown = json.loads(run(sys.executable, "-m", "wgpy", "show", end.interface, "--json"))
    return int(shown[end.interface].get("drops", {}).get("no-route", 0))
