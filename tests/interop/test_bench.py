"""The benchmark's results: the README says what was measured, and nothing that failed is hidden."""

from __future__ import annotations

import math
import os
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from xml.etree import ElementTree

import pytest

from interop.bench import chart, peers, tables
from interop.bench.measure import cpu_of_threads, transfer
from interop.bench.probes import LINES, PROBES, Line, Probe
from interop.bench.result import Machine, Result
from interop.bench.rounds import Pair, run_rounds
from interop.counterparts.userspace import Userspace
from interop.shell import ScenarioFailed

_ROOT = Path(__file__).parents[2]
_HOME = _ROOT / "docs" / "bench"
_OTHER = "other-go-sid"
_MACHINE: Machine = {
    "processor": "Abacus",
    "cpus": 2,
    "kernel": "6.18.0",
    "python": "3.11.7",
    "date": "2026-11-27",
    "load": 0.2,
}


def _result(rounds: int = 3) -> Result:
    versions = {"wgpy": "1.0", _OTHER: "0.0.1-2+b3"}
    return Result(_MACHINE, versions, {"wgpy": "whole", _OTHER: "whole"}, _OTHER, rounds, 1420)


def _measured(key: str, ours: list[float], theirs: list[float]) -> Result:
    result = _result(len(ours))
    for a, b in zip(ours, theirs, strict=True):
        result.add(key, "wgpy", a)
        result.add(key, _OTHER, b)
    return result


# What is in the repository.


def test_the_readme_shows_what_was_measured() -> None:
    readme = (_ROOT / "README.md").read_text()
    section = tables.readme_section(Result.read(_HOME / "results.json"))
    assert readme == tables.with_section(readme, section)


def test_the_whole_table_is_that_of_the_numbers() -> None:
    result = Result.read(_HOME / "results.json")
    assert (_HOME / "results.md").read_text() == tables.report(result)


def test_the_picture_in_the_repository_has_every_line_that_was_measured() -> None:
    result = Result.read(_HOME / "results.json")
    text = "".join(ElementTree.parse(_HOME / "results.svg").getroot().itertext())
    for line in LINES:
        if chart.scores(line, result, "wgpy"):
            assert line.name in text


# What is made of numbers.


def test_ratios_are_of_the_same_round_and_a_failed_one_has_none() -> None:
    result = _measured("tcp-1", [200, math.nan, 900, 400], [100, 100, 300, math.nan])
    assert result.ratios("tcp-1") == [2, 3]
    assert result.median("tcp-1", "wgpy") == 400
    assert result.median("tcp-1", _OTHER) == 100
    assert result.median("tcp-1", "nobody") is None


def test_more_throughput_and_less_latency_are_both_better() -> None:
    faster = _measured("tcp-1", [300, 200, 400], [200, 200, 200])
    assert "| 300 | 200 | **1.50 (1.00 to 2.00)** |" in tables.report(faster)
    slower = _measured("tcp-1", [100], [200])
    assert "| 100 | 200 | 0.50 |" in tables.report(slower)
    quicker = _measured("ping", [1], [2])
    assert "| 1 | 2 | **0.50** |" in tables.report(quicker)
    ping = next(line for line in LINES if line.key == "ping")
    assert chart.scores(ping, quicker, "wgpy") == [2]


def test_limits_and_a_second_worker_are_told_in_words() -> None:
    result = _measured("tcp-1", [3000], [2000])
    result.add("tcp-1", "null cipher", 5000)
    result.add("tcp-1", "no tunnel", 9000)
    result.add("busiest", "wgpy", 4)
    result.add("busiest", "two workers", 2.5)
    section = tables.readme_section(result)
    assert "one stream carries 5000 Mbit/s; without any tunnel, 9000" in section
    assert "spends 0.62 of the CPU time that one alone does: 1.60 times as much" in section


def test_who_the_peers_of_a_hub_are_is_told() -> None:
    result = _measured("hub", [3000], [2000])
    result.notes += peers.NOTES
    for text in (tables.report(result), tables.readme_section(result)):
        assert "peers of a hub are wireguard-go-sid, whatever the hub is." in text


def test_a_busy_machine_is_told() -> None:
    result = _measured("tcp-1", [300], [200])
    assert "one round, 2026-11-27.\n" in tables.readme_section(result)
    result.machine = {**_MACHINE, "load": 3.5}
    assert "other work as well (load 3.5)" in tables.readme_section(result)


def test_only_the_measured_part_of_a_readme_changes() -> None:
    readme = "a\n<!-- measured: begin -->\nold\n<!-- measured: end -->\nz\n"
    new = tables.with_section(readme, "new\n")
    assert new == readme.replace("old", "new")
    with pytest.raises(ValueError, match="no lines <!-- measured: begin --> and"):
        tables.with_section("a\nz\n", "new\n")


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    result = _measured("tcp-1", [1.5, math.nan], [2, 0])
    result.errors.append("TCP: no answer")
    result.write(tmp_path / "results.json")
    assert Result.read(tmp_path / "results.json") == result


def test_the_picture_shows_names_and_versions(tmp_path: Path) -> None:
    result = _measured("tcp-1", [300, 100], [200, 200])
    # No ratio can be given to nothing.
    result.add("idle", "wgpy", 0)
    result.add("idle", _OTHER, 0)
    chart.draw(result, tmp_path / "results.svg")
    text = "".join(ElementTree.parse(tmp_path / "results.svg").getroot().itertext())
    assert "TCP, 1 stream" in text
    assert "other-go 0.0.1" in text
    assert "idle" not in text


def test_rounds_are_interleaved_and_a_failure_is_told_and_keeps_its_place() -> None:
    order: list[str] = []

    def run(left: object, right: object, mtu: int) -> list[float]:
        assert isinstance(left, Userspace)
        order.append(left.name)
        if order == ["wgpy"]:
            raise ScenarioFailed("no answer")
        return [float(len(order))]

    ours, theirs = Userspace("wgpy", "true"), Userspace(_OTHER, "true")
    pairs = [Pair("wgpy", ours, ours), Pair(_OTHER, theirs, theirs)]
    result, said = _result(2), list[str]()
    kept: list[int] = []
    probe = Probe([Line("tcp-1", "TCP, 1 stream", "Mbit/s")], run)
    run_rounds(result, [probe], pairs, said.append, lambda: kept.append(len(order)))
    assert order == ["wgpy", _OTHER, "wgpy", _OTHER]
    assert result.values == {"tcp-1": {"wgpy": [None, 3.0], _OTHER: [2.0, 4.0]}}
    assert result.errors == ["TCP, 1 stream, wgpy: no answer"]
    assert result.errors[0] in said
    assert "- TCP, 1 stream, wgpy: no answer" in tables.report(result)
    assert kept == [4]


def test_the_cpu_time_of_threads_is_that_of_the_process() -> None:
    before, clock = cpu_of_threads(os.getpid()), time.process_time()
    sum(range(2_000_000))
    used, told = cpu_of_threads(os.getpid()) - before, time.process_time() - clock
    assert 0 < told == pytest.approx(used, rel=0.3)


def test_what_warming_up_carried_was_paid_for_but_is_no_throughput() -> None:
    sums = [(300, True), (1000, False), (1200, False)]
    done = transfer(
        {
            "intervals": [{"sum": {"bytes": size, "omitted": left}} for size, left in sums],
            "end": {"sum_received": {"bits_per_second": 8800.0}},
        }
    )
    assert (done.rate, done.carried) == (8800, 2500)


def test_figures_of_two_peers_are_medians_of_transfers_within_one_set_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    transfers = iter([(2000.0, 1.9), (3000.0, 1.0), (2100.0, 1.1), (2200.0, 1.8), (1900.0, 1.2)])
    set_ups: list[str] = []

    def star(
        center: object, mtu: int, number: int
    ) -> AbstractContextManager[tuple[None, list[None]]]:
        set_ups.append(f"{number} peers")
        return nullcontext((None, []))

    monkeypatch.setattr(peers, "_star", star)
    monkeypatch.setattr(peers, "_transfer_to_two", lambda *_: next(transfers))
    assert peers.two_peers(Userspace("wgpy", "true"), 1420, 2) == [2100, 1.2]
    assert set_ups == ["2 peers"]


def test_limits_and_workers_are_measured_only_where_they_tell_something() -> None:
    ours = Userspace("wgpy", "true")
    takes = {
        kind: {line.key for p in PROBES if Pair("x", ours, ours, kind).takes(p) for line in p.lines}
        for kind in ("whole", "mixed", "limit", "workers")
    }
    assert takes["whole"] == {line.key for line in LINES}
    assert {"tcp-1", "tcp-4", "udp-64", "ping"} <= takes["limit"] < takes["mixed"] < takes["whole"]
    # Both directions of all streams, and what UDP keeps.
    ways = {f"tcp-{streams}{way}" for streams in (1, 4, 16) for way in ("", "-back")}
    sizes = {f"udp-{size}{which}" for size in (64, 512, 1372) for which in ("", "-clean")}
    assert ways | sizes | {"ping-loaded"} <= takes["mixed"]
    at_hub = {"hub", "hub-cubic", "hub-ping", "hub-ping-99", "hub-ping-back"}
    assert takes["workers"] == at_hub | {"two-peers", "busiest"}


def test_no_two_lines_have_the_same_key_or_name() -> None:
    assert len({line.key for line in LINES}) == len({line.name for line in LINES}) == len(LINES)
