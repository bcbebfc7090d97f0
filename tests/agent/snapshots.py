"""A snapshot to tell of: one peer that can be reached, one that cannot."""

from __future__ import annotations

from agent.lanefacts import PeerPlan, Plan, Rotation
from agent.model import LaneKeys, Problem
from agent.snapshot import Devices, Snapshot, lane_views, peer_views
from wgpy.protocol.config import Endpoint, InterfaceStats, PeerStats, Secret

NOW_NS = 10**18
PRIVATE, PSK = (
    Secret(b"private-key-that-nobody-may-see!"),
    Secret(b"preshared-key-nobody-may-see-it!"),
)


def keys(number: int) -> LaneKeys:
    return LaneKeys(bytes([number] * 32), bytes([number] * 32), 51870 + number, number)


def plan() -> Plan:
    near = PeerPlan(keys=(keys(11), keys(12)), keepalive=(True, False), route=0)
    far = PeerPlan(keys=(keys(21), None), keepalive=(True, False), route=0)
    rotation = Rotation("drain", 1, 3, ("far",))
    return Plan((keys(1), keys(2)), 0, {"near": near, "far": far}, rotation, (), busy=True)


def devices() -> Devices:
    near = PeerStats(
        keys(11).public_key,
        preshared_key=PSK,
        endpoint=Endpoint("fd00::1", 51871),
        last_handshake_ns=NOW_NS - 7 * 10**9,
        rx_bytes=2048,
        tx_bytes=100,
    )
    far = PeerStats(keys(21).public_key, last_handshake_ns=NOW_NS - 500 * 10**9)
    home = InterfaceStats(PRIVATE, keys(1).public_key, 51871, 0, (near, far), {"replay": 4})
    return home, None


def snapshot() -> Snapshot:
    return Snapshot(
        node="me",
        version="1.0",
        backend="userspace",
        connected=False,
        active_lane=0,
        rotation=plan().rotation,
        lanes=lane_views(plan(), devices()),
        peers=peer_views(plan(), devices(), NOW_NS, 180.0),
        problems=(Problem("warning", "node far is silent", "look at it"),),
        silent=("far",),
        drift=("route 10.1.0.0/24 was missing",),
        firewall_drops={"leak": 0, "pod_spoof": 3},
    )
