"""What makes each alert fire, and what does not: asked of promtool, minute by minute."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from interop import cache
from interop.shell import run

_RULES = Path(__file__).resolve().parents[2] / "docs" / "monitoring" / "alerts.yaml"
_VARIABLE = re.compile(r"{{ \$(?:labels\.)?(\w+) }}")

_UP = 'up{job="wgpy-agent",instance="one"}'
_OTHER_UP = 'up{job="kubelet",instance="one"}'
_READY = 'wgpy_ready{instance="one"}'
_ERRORS = 'wgpy_problems{instance="one",severity="error"}'
_WARNINGS = 'wgpy_problems{instance="one",severity="warning"}'
_SESSION = 'wgpy_peer_ready{instance="one",peer="two"}'
_SILENT = 'wgpy_peer_silent{instance="one",peer="two"}'
_HEALS = 'wgpy_heals_total{instance="one",cure="peer"}'
_LANE = 'wgpy_lane_up{instance="one",lane="1"}'
_LEAK = 'wgpy_firewall_dropped_packets_total{instance="one",reason="leak"}'
_SPOOF = 'wgpy_firewall_dropped_packets_total{instance="one",reason="pod_spoof"}'
_WAITING = 'wgpy_rotation_waiting{instance="one"}'
_API = 'wgpy_api_connected{instance="one"}'
_FAILURES = 'wgpy_reconcile_failures_total{instance="one",resource="routes"}'
_CHANGES = 'wgpy_changes_total{instance="one",resource="routes"}'
_DRIFT = 'wgpy_drift_total{instance="one",resource="routes"}'


@dataclass(frozen=True)
class Case:
    """What Prometheus finds, a value a minute as promtool writes them, and what follows."""

    alert: str
    what: str
    series: Mapping[str, str]
    # The first minute in which it fires, of those that are looked at; None: in none of them.
    at: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    value: str = ""
    minutes: int = 40


def _fires(alert: str, at: int, series: Mapping[str, str], value: str = "", **labels: str) -> Case:
    return Case(alert, "fires", series, at, labels or {"instance": "one"}, value)


_CASES = (
    _fires("WgpyAgentGone", 10, {_UP: "1x4 0x40"}, instance="one", job="wgpy-agent"),
    Case("WgpyAgentGone", "its pod is another", {_UP: "1x4 0x3 1x40"}),
    _fires("WgpyNotWatched", 15, {_OTHER_UP: "1x40"}, job="wgpy-agent"),
    Case("WgpyNotWatched", "it is asked, and does not answer", {_UP: "0x40"}),
    Case("WgpyNotWatched", "Prometheus has only just started", {_UP: "_x10 1x40"}),
    _fires("WgpyNotReady", 5, {_READY: "0x40"}),
    Case("WgpyNotReady", "it starts", {_READY: "0x3 1x40"}),
    _fires("WgpyProblem", 10, {_ERRORS: "0x4 2x40"}, instance="one", severity="critical"),
    Case("WgpyProblem", "warnings", {_ERRORS: "0x40", _WARNINGS: "2x40"}),
    Case("WgpyProblem", "it is over soon", {_ERRORS: "0x4 1x3 0x40"}),
    _fires("WgpyPeerUnreachable", 10, {_SESSION: "1x4 0x40"}, instance="one", peer="two"),
    Case("WgpyPeerUnreachable", "its node is restarted", {_SESSION: "1x4 0x3 1x40"}),
    _fires(
        "WgpyPeerSilent",
        10,
        {_SESSION: "1x40", _SILENT: "_x5 1x40"},
        instance="one",
        peer="two",
    ),
    Case("WgpyPeerSilent", "it heals", {_SESSION: "1x40", _SILENT: "_x5 1x3 stale"}),
    Case("WgpyPeerSilent", "it has no session", {_SESSION: "0x40", _SILENT: "_x5 1x40"}),
    # As seldom as they come when nothing helps.
    _fires("WgpyKeepsHealing", 70, {_HEALS: "0x9 1x9 2x9 3x9 4x9 5x9 6x9", _SESSION: "1x80"}),
    Case("WgpyKeepsHealing", "a node is restarted", {_HEALS: "0x9 1 2 3x120"}, minutes=120),
    Case(
        "WgpyKeepsHealing",
        "a node is gone",
        {_HEALS: "0x9 1x9 2x9 3x9 4x9 5x9 6x9 7x9", _SESSION: "1x12 0x80"},
        minutes=80,
    ),
    _fires("WgpyLaneDown", 7, {_LANE: "1x4 0x40"}, instance="one", lane="1"),
    Case("WgpyLaneDown", "it is made anew", {_LANE: "1x4 0x1 1x40"}),
    _fires("WgpyLeakStopped", 5, {_LEAK: "0x4 3x40"}, instance="one", reason="leak"),
    Case("WgpyLeakStopped", "before anybody looked", {_LEAK: "_x5 7x40"}),
    Case("WgpyLeakStopped", "its node is restarted", {_LEAK: "7x4 0x40"}),
    Case("WgpyLeakStopped", "another reason", {_LEAK: "0x40", _SPOOF: "0+5x40"}),
    _fires("WgpySpoofing", 11, {_SPOOF: "0+5x40"}, instance="one", reason="pod_spoof"),
    Case("WgpySpoofing", "for two minutes", {_SPOOF: "0x4 5 10 15x40"}),
    _fires("WgpyRotationStuck", 35, {_WAITING: "0x4 3x40"}, "3"),
    Case("WgpyRotationStuck", "a slow one", {_WAITING: "0x4 2x25 0x40"}),
    _fires("WgpyNoApiServer", 15, {_API: "1x4 0x40"}),
    Case("WgpyNoApiServer", "it is restarted", {_API: "1x4 0x8 1x40"}),
    _fires("WgpyCannotReconcile", 12, {_FAILURES: "0+2x40"}, instance="one", resource="routes"),
    Case("WgpyCannotReconcile", "for the first minutes", {_FAILURES: "0 5 9 11x40"}),
    _fires("WgpySomebodyFights", 11, {_DRIFT: "0+1x40"}, instance="one", resource="routes"),
    Case("WgpySomebodyFights", "all routes go once", {_DRIFT: "0x4 1x40", _CHANGES: "0x4 500x40"}),
    Case("WgpySomebodyFights", "nodes come", {_DRIFT: "0x40", _CHANGES: "0+100x40"}),
)


def _rules() -> dict[str, Any]:
    groups: list[Any] = yaml.safe_load(_RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def _expected(case: Case) -> dict[str, Any]:
    """The alert of a case as promtool wants it: with all that is said of it."""
    rule = _rules()[case.alert]
    told = {**case.labels, "value": case.value}
    annotations = {
        name: _VARIABLE.sub(lambda found: told[found[1]], text)
        for name, text in rule["annotations"].items()
    }
    return {"exp_labels": {**case.labels, **rule["labels"]}, "exp_annotations": annotations}


def _looks(case: Case) -> Iterator[dict[str, Any]]:
    last = case.minutes if case.at is None else case.at
    for minute in range(last + 1):
        found = [_expected(case)] if minute == case.at else []
        yield {"eval_time": f"{minute}m", "alertname": case.alert, "exp_alerts": found}


@pytest.mark.parametrize("alert", _rules())
def test_each_alert_is_tried_both_ways(alert: str) -> None:
    assert {case.at is None for case in _CASES if case.alert == alert} == {True, False}


@pytest.mark.system
@pytest.mark.parametrize("case", _CASES, ids=lambda case: f"{case.alert}: {case.what}")
def test_it_fires_when_it_should(case: Case, tmp_path: Path) -> None:
    """And not a minute before."""
    package, _ = cache.debian("prometheus", "bookworm")
    series = [{"series": name, "values": values} for name, values in case.series.items()]
    test = {"interval": "1m", "input_series": series, "alert_rule_test": [*_looks(case)]}
    path = tmp_path / "test.yaml"
    asked = {"rule_files": [str(_RULES)], "evaluation_interval": "1m", "tests": [test]}
    path.write_text(yaml.safe_dump(asked))
    assert "SUCCESS" in run(str(package / "usr" / "bin" / "promtool"), "test", "rules", str(path))
