"""What Prometheus reads."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from agent.metrics import Metrics
from agent.snapshot import Snapshot
from tests.agent.snapshots import snapshot


def samples(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    families = text_string_to_metric_families(metrics.text().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.values()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_snapshot_is_told_as_it_is() -> None:
    told = samples(Metrics(snapshot))
    assert told[("wgpy_info", ("1.0", "userspace"))] == 1
    assert told[("wgpy_api_connected", ())] == 0
    assert told[("wgpy_peers", ())] == 2
    assert told[("wgpy_peers_ready", ())] == 1
    assert told[("wgpy_peer_ready", ("far",))] == 0
    assert told[("wgpy_peer_received_bytes_total", ("0", "near"))] == 2048
    assert told[("wgpy_peer_sent_bytes_total", ("0", "near"))] == 100
    assert told[("wgpy_peer_handshake_age_seconds", ("0", "near"))] == 7
    assert told[("wgpy_dropped_packets_total", ("0", "replay"))] == 4
    assert told[("wgpy_firewall_dropped_packets_total", ("pod_spoof",))] == 3
    assert told[("wgpy_firewall_dropped_packets_total", ("leak",))] == 0
    assert told[("wgpy_lane_epoch", ("1",))] == 2
    assert told[("wgpy_lane_up", ("1",))] == 0
    assert told[("wgpy_rotation_stage", ("drain",))] == 1
    assert told[("wgpy_rotation_stage", ("steady",))] == 0
    assert told[("wgpy_rotation_waiting", ())] == 1
    assert told[("wgpy_problems", ("warning",))] == 1


def test_the_next_snapshot_is_the_next_answer() -> None:
    current: Snapshot | None = None
    metrics = Metrics(lambda: current)
    assert ("wgpy_peers", ()) not in samples(metrics)
    current = snapshot()
    assert samples(metrics)[("wgpy_peers", ())] == 2


def test_passes_over_a_resource_are_counted() -> None:
    metrics = Metrics(lambda: None)
    metrics.reconciled("routes", 0.02, 3, failed=False)
    metrics.reconciled("routes", 0.02, 0, failed=True)
    told = samples(metrics)
    assert told[("wgpy_changes_total", ("routes",))] == 3
    assert told[("wgpy_reconcile_failures_total", ("routes",))] == 1
    assert told[("wgpy_reconcile_seconds_count", ("routes",))] == 2
    assert told[("wgpy_reconcile_seconds_bucket", ("0.03", "routes"))] == 2
    assert told[("wgpy_reconcile_seconds_bucket", ("0.01", "routes"))] == 0
