"""Rules of others, loaded before ours and after: traffic and protection are what they are alone."""

from __future__ import annotations

import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.network.firewall import Firewall
from agent.network.iptables import IptablesFirewall
from interop.shell import run
from tests.system.agentnode import (
    FAR_POD,
    LOCAL,
    NODE,
    OWN,
    PATIENCE,
    POD,
    WORLD,
    Lab,
    Resources,
    capture,
    listener,
    received_from,
    send,
)
from tests.system.others import KINDS, NODE_PORT, SERVICE, STRANGER, load

pytestmark = pytest.mark.system

_OURS = ("nftables", "iptables", "iptables-legacy")
_BOTH = [
    pytest.param(ours, kind, order, id=f"{kind}, {order} {ours}")
    for ours in _OURS
    for kind in KINDS
    for order in ("before", "after")
    # Where nftables is missing kube-proxy has none either.
    if not (ours == "iptables-legacy" and "nftables" in kind)
]


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Anew each time: rules of others are not ours to remove."""
    with Lab() as made:
        yield made


def _firewall(ours: str) -> Firewall | IptablesFirewall:
    if ours == "nftables":
        return Firewall()
    return IptablesFirewall(_variant(ours))


def _variant(ours: str) -> str:
    return "-legacy" if ours == "iptables-legacy" else "-nft"


@pytest.mark.parametrize(("ours", "kind", "order"), _BOTH)
def test_pods_talk_and_nobody_poses_or_leaks(
    lab: Lab, tmp_path: Path, ours: str, kind: str, order: str
) -> None:
    with lab.node.inside():
        made = Resources(tmp_path, firewall=_firewall(ours))
        variant = _variant(ours)
        if order == "before":
            load(kind, variant)
            made.reconcile()
        else:
            made.reconcile()
            load(kind, variant)
            # The look that the rules of others cause.
            made.reconcile()
        assert made.reconcile() == []
    for version in (4, 6):
        _pods_talk(lab, kind, version)
        _services_work(lab, kind, version)
        _policies_hold(lab, kind, version)
        _nobody_poses(lab, version)
    with lab.node.inside():
        counted = {name: count.packets for name, count in made.firewall.counters().items()}
    assert counted == {"pod_spoof": 2, "lane_spoof": 2, "underlay_spoof": 2, "leak": 0}
    _nothing_leaks(lab, made)
    with lab.node.inside():
        made.remove()
        for program in ("nft list ruleset", "iptables-legacy-save", "ip6tables-legacy-save"):
            left = run(*program.split())
            assert "wgpy" not in left and "WGPY" not in left


def _pods_talk(lab: Lab, kind: str, version: int) -> None:
    """With pods, the world and the node itself, and from it."""
    with listener(lab.far, version) as far, listener(lab.world, version) as world:
        send(lab.pod, version, FAR_POD[version])
        assert received_from(far) == POD[version]
        send(lab.node, version, FAR_POD[version])
        assert received_from(far) == str(OWN[version])
        send(lab.pod, version, WORLD[version])
        assert received_from(world) == NODE[version]
    with listener(lab.pod, version) as pod, listener(lab.node, version) as node:
        send(lab.far, version, POD[version], FAR_POD[version])
        assert received_from(pod) == FAR_POD[version]
        send(lab.pod, version, NODE[version])
        assert received_from(node) == POD[version]


def _services_work(lab: Lab, kind: str, version: int) -> None:
    if "kube-proxy" not in kind:
        return
    with listener(lab.far, version) as far:
        send(lab.pod, version, SERVICE[version])
        assert received_from(far) == POD[version]
        send(lab.node, version, SERVICE[version])
        assert received_from(far) == str(OWN[version])
        send(lab.world, version, NODE[version], port=NODE_PORT)
        # The node port's masquerade, so that the answer comes back this way.
        assert received_from(far) == str(OWN[version])


def _policies_hold(lab: Lab, kind: str, version: int) -> None:
    with listener(lab.pod, version) as pod:
        send(lab.far, version, POD[version], STRANGER[version])
        if "policy" not in kind:
            assert received_from(pod) == STRANGER[version]
        # What comes first was not preceded by the stranger's.
        send(lab.far, version, POD[version], FAR_POD[version])
        assert received_from(pod) == FAR_POD[version]


def _nobody_poses(lab: Lab, version: int) -> None:
    with listener(lab.far, version) as far, listener(lab.pod, version) as pod:
        send(lab.pod, version, FAR_POD[version], WORLD[version])
        send(lab.far, version, POD[version], str(LOCAL[version][9]))
        send(lab.world, version, POD[version], FAR_POD[version])
        send(lab.pod, version, FAR_POD[version])
        assert received_from(far) == POD[version]
        send(lab.far, version, POD[version], FAR_POD[version], payload=b"mine")
        assert select.select([pod], [], [], PATIENCE)[0]
        assert pod.recv(2048) == b"mine"


def _nothing_leaks(lab: Lab, made: Resources) -> None:
    """Not even when every route of ours is gone."""
    with lab.node.inside():
        made.routes.remove()
        made.guard.remove()
    with capture(lab.world, "eth0") as seen:
        for version in (4, 6):
            for sender in (lab.pod, lab.node):
                send(sender, version, FAR_POD[version])
            send(lab.pod, version, SERVICE[version])
        assert not any(FAR_POD_BYTES[version] in frame for frame in seen() for version in (4, 6))


FAR_POD_BYTES = {
    4: bytes([10, 244, 2, 5]),
    6: bytes.fromhex("fd000244000000020000000000000005"),
}
