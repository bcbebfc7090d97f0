"""What Prometheus is told: the last snapshot as it is, and the counts of the loop."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from agent.healing import CURES, Cure
from agent.snapshot import Snapshot

# Seconds; a pass that finds nothing to do takes some milliseconds.
_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
OWN_OBJECT = "object"
_STAGES = ("steady", "drain", "prove")
_SEVERITIES = ("info", "warning", "error")


class Metrics:
    """Of one agent."""

    def __init__(self, snapshot: Callable[[], Snapshot | None], ready: Callable[[], bool]) -> None:
        """`ready`: pods of this node are connected; also when there is no snapshot yet."""
        self._registry = CollectorRegistry()
        self._seconds = Histogram(
            "wgpy_reconcile_seconds",
            "How long it took to bring a resource into order.",
            ["resource"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._failures = Counter(
            "wgpy_reconcile_failures",
            "Times that a resource could not be brought into order.",
            ["resource"],
            registry=self._registry,
        )
        self._changes = Counter(
            "wgpy_changes",
            "Things that were other than they should be, and were changed.",
            ["resource"],
            registry=self._registry,
        )
        self._drift = Counter(
            "wgpy_drift",
            "Times that others had altered a resource, and it was put right.",
            ["resource"],
            registry=self._registry,
        )
        self._drift.labels(OWN_OBJECT)
        self._heals = Counter(
            "wgpy_heals",
            "What was done for peers that did not answer through the tunnel.",
            ["cure"],
            registry=self._registry,
        )
        for cure in CURES:
            self._heals.labels(cure)
        self._questions = Counter(
            "wgpy_probes",
            "Questions to peers through the tunnel.",
            ["answered"],
            registry=self._registry,
        )
        for answered in ("yes", "no"):
            self._questions.labels(answered)
        self._registry.register(_Collector(snapshot, ready))

    def reconciled(self, resource: str, seconds: float, changes: int, failed: bool) -> None:
        """Note one pass over a resource."""
        self._seconds.labels(resource).observe(seconds)
        self._changes.labels(resource).inc(changes)
        self._failures.labels(resource).inc(failed)
        # What has not drifted yet is told as well: else its first time would be no increase.
        self._drift.labels(resource)

    def drifted(self, resource: str) -> None:
        """Note that others had altered one."""
        self._drift.labels(resource).inc()

    def healed(self, cure: Cure) -> None:
        """Note one remedy."""
        self._heals.labels(cure).inc()

    def asked(self, answered: bool) -> None:
        """Note one question to a peer."""
        self._questions.labels("yes" if answered else "no").inc()

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)


class _Collector:
    def __init__(self, snapshot: Callable[[], Snapshot | None], ready: Callable[[], bool]) -> None:
        self._snapshot = snapshot
        self._ready = ready

    def collect(self) -> Iterator[Metric]:
        yield _value("wgpy_ready", "Pods of this node are connected, as /readyz.", self._ready())
        told = self._snapshot()
        if told is not None:
            yield from _node(told)
            yield from _lanes(told)
            yield from _peers(told)


def _node(told: Snapshot) -> Iterator[Metric]:
    info = _gauge("wgpy_info", "Version and data plane in use.", "version", "backend")
    info.add_metric([told.version, told.backend], 1)
    yield info
    yield _value("wgpy_api_connected", "All watches at the API server are open.", told.connected)
    yield _value("wgpy_peers", "Nodes that this one talks to.", len(told.peers))
    yield _value("wgpy_peers_ready", "Those with a live session.", told.ready_peers)
    yield _value("wgpy_active_lane", "The lane that others are to send on.", told.active_lane)
    stage = _gauge("wgpy_rotation_stage", "1 for the stage that a rotation is in.", "stage")
    for name in _STAGES:
        stage.add_metric([name], told.rotation.stage == name)
    yield stage
    waiting = len(told.rotation.waiting)
    yield _value("wgpy_rotation_waiting", "Peers that a rotation waits for.", waiting)
    problems = _gauge("wgpy_problems", "What `wgpy-agent status` has to say.", "severity")
    for severity in _SEVERITIES:
        count = sum(problem.severity == severity for problem in told.problems)
        problems.add_metric([severity], count)
    yield problems
    drops = _counter("wgpy_firewall_dropped_packets", "Spoofed or about to leak.", "reason")
    for reason, packets in sorted(told.firewall_drops.items()):
        drops.add_metric([reason], packets)
    yield drops


def _lanes(told: Snapshot) -> Iterator[Metric]:
    up = _gauge("wgpy_lane_up", "The lane's device is there and has its key.", "lane")
    epoch = _gauge("wgpy_lane_epoch", "Counts the keys of the lane.", "lane")
    drops = _counter("wgpy_dropped_packets", "By the userspace data plane.", "lane", "reason")
    for lane in told.lanes:
        number = str(lane.number)
        up.add_metric([number], lane.up)
        epoch.add_metric([number], lane.epoch)
        for reason, packets in sorted(lane.drops.items()):
            drops.add_metric([number, reason], packets)
    yield from (up, epoch, drops)


def _peers(told: Snapshot) -> Iterator[Metric]:
    ready = _gauge("wgpy_peer_ready", "There is a live session with it.", "peer")
    labels = ("peer", "lane")
    received = _counter("wgpy_peer_received_bytes", "Of its data.", *labels)
    sent = _counter("wgpy_peer_sent_bytes", "Of data for it.", *labels)
    age = _gauge("wgpy_peer_handshake_age_seconds", "Since the last handshake.", *labels)
    for peer in told.peers:
        ready.add_metric([peer.name], peer.ready)
        for lane in peer.lanes:
            values = [peer.name, str(lane.lane)]
            received.add_metric(values, lane.rx_bytes)
            sent.add_metric(values, lane.tx_bytes)
            if lane.handshake_age is not None:
                age.add_metric(values, lane.handshake_age)
    # Of healthy peers, which may be thousands, there is nothing to tell.
    silent = _gauge("wgpy_peer_silent", "1 for a peer that has ceased to answer.", "peer")
    for name in told.silent:
        silent.add_metric([name], 1)
    yield from (ready, received, sent, age, silent)


def _value(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=float(value))


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=labels)


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, labels=labels)
