"""What Prometheus reads."""

from __future__ import annotations

from collections.abc import Callable

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


def metrics_of(current: Callable[[], Snapshot | None]) -> Metrics:
    return Metrics(current, lambda: True)


def test_a_snapshot_is_told_as_it_is() -> None:
    told = samples(metrics_of(snapshot))
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
    assert told[("wgpy_peer_silent", ("far",))] == 1
    assert ("wgpy_peer_silent", ("near",)) not in told


def test_the_next_snapshot_is_the_next_answer() -> None:
    current: Snapshot | None = None
    metrics = metrics_of(lambda: current)
    assert ("wgpy_peers", ()) not in samples(metrics)
    current = snapshot()
    assert samples(metrics)[("wgpy_peers", ())] == 2


def test_passes_over_a_resource_are_counted() -> None:
    metrics = metrics_of(lambda: None)
    metrics.reconciled("routes", 0.02, 3, failed=False)
    metrics.reconciled("routes", 0.02, 0, failed=True)
    told = samples(metrics)
    assert told[("wgpy_changes_total", ("routes",))] == 3
    assert told[("wgpy_reconcile_failures_total", ("routes",))] == 1
    assert told[("wgpy_reconcile_seconds_count", ("routes",))] == 2
    assert told[("wgpy_reconcile_seconds_bucket", ("0.03", "routes"))] == 2
    assert told[("wgpy_reconcile_seconds_bucket", ("0.01", "routes"))] == 0


def test_what_others_altered_is_counted_once_however_much_it_was() -> None:
    """And from nothing on: only what grows between two looks is seen to grow."""
    metrics = metrics_of(lambda: None)
    metrics.reconciled("routes", 0.02, 100, failed=False)
    assert samples(metrics)[("wgpy_drift_total", ("routes",))] == 0
    assert samples(metrics)[("wgpy_drift_total", ("object",))] == 0
    metrics.drifted("routes")
    assert samples(metrics)[("wgpy_drift_total", ("routes",))] == 1


def test_whether_it_is_ready_is_told_before_all_else() -> None:
    """An agent that comes to nothing has no snapshot to tell of."""
    ready = False
    metrics = Metrics(lambda: None, lambda: ready)
    assert samples(metrics)[("wgpy_ready", ())] == 0
    ready = True
    assert samples(metrics)[("wgpy_ready", ())] == 1
