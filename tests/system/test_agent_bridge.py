"""The pod bridge: what pods remember of it stays."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from agent.network.base import POD_BRIDGE
from agent.network.bridge import Bridge, BridgeDesired
from agent.network.links import Link, Links, LinksDesired
from tests.system.tunhost import Namespace

pytestmark = pytest.mark.system

_PODS = (ip_network("10.244.3.0/24"), ip_network("fd00:244:0:3::/64"))


@pytest.fixture
def node() -> Iterator[Namespace]:
    made = Namespace(f"br{os.getpid()}")
    yield made
    made.remove()


def _address(node: Namespace) -> str:
    words = node.ip("-o", "link", "show", POD_BRIDGE).split()
    return words[words.index("link/ether") + 1]


def _gateways(node: Namespace) -> list[str]:
    listed = node.ip("-o", "address", "show", "dev", POD_BRIDGE, "scope", "global")
    return [line.split()[3] for line in listed.splitlines()]


def test_its_hardware_address_stays_when_pods_come_and_go(node: Namespace) -> None:
    with node.inside():
        assert Bridge().reconcile(BridgeDesired(wanted=True)) != []
    before = _address(node)
    # The kernel would take the lowest of the ports', and another when that goes.
    node.ip("link", "add", "pod", "address", "00:00:00:00:00:01", "type", "veth")
    node.ip("link", "set", "pod", "master", POD_BRIDGE)
    assert _address(node) == before
    node.ip("link", "del", "pod")
    assert _address(node) == before


def test_it_has_the_gateways_of_its_prefixes_and_no_others(node: Namespace) -> None:
    wanted = LinksDesired((Link(POD_BRIDGE, 1420, None, _PODS, required=False),))
    with node.inside():
        Bridge().reconcile(BridgeDesired(wanted=True))
        assert len(Links().reconcile(wanted)) == 4  # two addresses, the MTU, and that it is up
        assert Links().reconcile(wanted) == []
    assert _gateways(node) == ["10.244.3.1/24", "fd00:244:0:3::1/64"]
    node.ip("address", "del", "10.244.3.1/24", "dev", POD_BRIDGE)
    node.ip("address", "add", "10.244.9.1/24", "dev", POD_BRIDGE)
    with node.inside():
        assert len(Links().reconcile(wanted)) == 2
    assert _gateways(node) == ["10.244.3.1/24", "fd00:244:0:3::1/64"]
