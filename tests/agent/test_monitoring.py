"""The alert rules and the dashboard speak of metrics, labels and reasons that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from agent.cli import USAGE
from agent.metrics import Metrics
from agent.network.ruleset import COUNTERS
from interop import cache
from interop.shell import run
from tests.agent.snapshots import snapshot

_ROOT = Path(__file__).resolve().parents[2]
_DAEMON_SET = _ROOT / "agent" / "manifests" / "generic" / "agent.yaml"
_MONITORING = _ROOT / "docs" / "monitoring"
_RULES = _MONITORING / "alerts.yaml"
_DASHBOARD = _MONITORING / "dashboard.json"
_PROMETHEUS = _MONITORING / "prometheus.yaml"
_COMMAND = re.compile(r"`([^`]+)`")
_SUBCOMMAND = re.compile(r"^  (\w+) ", re.MULTILINE)
_JOB = re.compile(r'\bjob="([^"]+)"')
_METRIC = re.compile(r"\bwgpy_\w+")
_SELECTED = re.compile(r"\b(wgpy_\w+)\{([^}]*)\}")
_LABEL = re.compile(r"(\w+)\s*[=!]~?\s*\"")
_GROUPED = re.compile(r"\bby \(([^)]*)\)")
# Of Prometheus and its scrape, not of ours.
_FOREIGN = {"instance", "job", "le"}


def exported() -> dict[str, set[str]]:
    """Every series, and its labels."""
    metrics = Metrics(snapshot, lambda: True)
    metrics.reconciled("routes", 0.02, 3, failed=True)
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                found.setdefault(sample.name, set()).update(sample.labels)
    return found


def rules() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(_RULES.read_text())["groups"][0]["rules"]
    return found


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(_DASHBOARD.read_text())["panels"]
    return found


def expressions() -> list[str]:
    asked = [target["expr"] for panel in panels() for target in panel["targets"]]
    return [*(rule["expr"] for rule in rules()), *asked]


def test_every_metric_and_label_they_name_is_told() -> None:
    told = exported()
    for expression in expressions():
        names = set(_METRIC.findall(expression))
        assert names <= set(told), expression
        for name, selectors in _SELECTED.findall(expression):
            assert set(_LABEL.findall(selectors)) <= told[name] | _FOREIGN, expression
        for labels in _GROUPED.findall(expression):
            known = set().union(*(told[name] for name in names)) | _FOREIGN
            assert set(labels.replace(" ", "").split(",")) <= known, expression


def test_every_metric_that_is_told_is_on_the_dashboard() -> None:
    shown = _DASHBOARD.read_text()
    parts = re.compile(r"_(sum|count)$")
    missing = [name for name in exported() if name not in shown and not parts.search(name)]
    assert not missing


def test_the_page_on_operating_names_them_all() -> None:
    page = (_MONITORING.parent / "operating.md").read_text()
    names = {re.sub(r"_(sum|count|bucket)$", "", name) for name in exported()}
    assert not [name for name in names if f"`{name}`" not in page]


def test_reasons_that_alerts_wait_for_are_those_of_the_firewall() -> None:
    for rule in rules():
        for pattern in re.findall(r'reason=~?"([^"]*)"', rule["expr"]):
            assert any(re.fullmatch(pattern, reason) for reason in COUNTERS), pattern


def test_every_alert_says_what_happened_and_what_to_do() -> None:
    for rule in rules():
        assert rule["alert"].startswith("Wgpy") and rule["labels"]["severity"]
        assert {"summary", "description"} == set(rule["annotations"]), rule["alert"]
    for panel in panels():
        assert panel["title"] and panel["targets"] and panel["gridPos"]["w"] <= 24


def test_every_alert_has_a_command_that_the_page_on_troubleshooting_has_for_it() -> None:
    page = (_MONITORING.parent / "troubleshooting.md").read_text().splitlines()
    for rule in rules():
        commands = _COMMAND.findall(rule["annotations"]["description"])
        row = next((line for line in page if line.startswith(f"| `{rule['alert']}` |")), "")
        assert commands and [one for one in commands if f"`{one}`" not in row] == [], rule["alert"]
        for command in commands:
            program, *words = command.split()
            assert program != "wgpy-agent" or words[0] in _SUBCOMMAND.findall(USAGE), command
    told = [line for line in page if line.startswith("| `Wgpy")]
    assert len(told) == len(rules())


def test_the_job_that_they_name_is_the_one_that_prometheus_is_given() -> None:
    (job,) = yaml.safe_load(_PROMETHEUS.read_text())["scrape_configs"]
    named = {name for expression in expressions() for name in _JOB.findall(expression)}
    assert named == {job["job_name"]}
    (relabelled,) = job["relabel_configs"]
    (port,) = re.findall(r"--listen=\$\(HOST_IP\):(\d+)", _DAEMON_SET.read_text())
    assert relabelled["replacement"] == f"$1:{port}"


@pytest.mark.system
def test_promtool_takes_the_configuration_and_the_rules(tmp_path: Path) -> None:
    """But for how nodes are found: Debian's Prometheus is built without that."""
    package, _ = cache.debian("prometheus", "bookworm")
    configuration = yaml.safe_load(_PROMETHEUS.read_text())
    configuration["rule_files"] = [str(_MONITORING / name) for name in configuration["rule_files"]]
    (job,) = configuration["scrape_configs"]
    assert job.pop("kubernetes_sd_configs") == [{"role": "node"}]
    job["static_configs"] = [{"targets": ["192.0.2.1:10250"]}]
    path = tmp_path / "prometheus.yaml"
    path.write_text(yaml.safe_dump(configuration))
    said = run(str(package / "usr" / "bin" / "promtool"), "check", "config", str(path))
    assert f"SUCCESS: {len(rules())} rules found" in said
