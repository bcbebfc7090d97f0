"""What an agent does in one pass grows with the nodes as they do, and not faster.

Counted in function calls, which a busy machine does not alter.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address, ip_network
from os import urandom

import pytest
from nacl.bindings import crypto_scalarmult_base

from agent.apiserver import Json
from agent.backend import describe, difference
from agent.decisions import Decision, Decisions, Devices, Identity, Known
from agent.kube import NODES, PUBLISHED, Kube
from agent.machine import wishes
from agent.model import LaneKeys, NodeFacts, WireGuardNode
from agent.network.routes import wanted_routes
from agent.network.ruleset import ruleset
from agent.snapshot import lane_views, peer_views
from tests.agent.fakeapi import FakeApi, FakeTime, settle
from tests.uapi.fake import FakeDevice
from wgpy.protocol.config import InterfaceStats, Network

_FEW, _MANY = 100, 400
# Sorting, and what does not depend on the nodes.
_TOLERANCE = 1.15
_NOW_NS = 10**18


def calls(work: Callable[[], object]) -> int:
    """Of Python functions and of built-in ones."""
    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def facts(number: int) -> NodeFacts:
    """Every other prefix is free: nothing can be joined."""
    return NodeFacts(
        f"node-{number}",
        f"uid-{number}",
        "2026-01-01T00:00:00Z",
        (
            ip_network((0x0A00_0000 + (number << 9), 24)),
            ip_network(((0xFD00 << 112) + (number << 65), 64)),
        ),
        (ip_address(0xC612_0000 + number), ip_address((0x2001_0DB8 << 96) + number)),
    )


def published(number: int) -> WireGuardNode:
    # Any 32 bytes are a public key.
    first, second = (LaneKeys(urandom(32), urandom(32), 51871 + lane, 1) for lane in (0, 1))
    return WireGuardNode(f"node-{number}", (first, second), 0, facts(number).internal_ips)


def _with_public_key(stats: InterfaceStats) -> InterfaceStats:
    if stats.private_key is None:
        return stats
    return replace(stats, public_key=crypto_scalarmult_base(bytes(stats.private_key)))


class Node:
    """One of `count`, whose devices do at once what they are told."""

    def __init__(self, count: int) -> None:
        self.nodes = {f"node-{number}": facts(number) for number in range(count)}
        self.published = {name: published(number) for number, name in enumerate(self.nodes)}
        self.devices = FakeDevice(), FakeDevice()
        self.routes: dict[Network, int] = {}
        self.confirmed: WireGuardNode | None = None
        self.decisions = Decisions(Identity("node-0"), urandom, (None, None), None)

    def stats(self) -> Devices:
        first, second = (_with_public_key(device.snapshot()) for device in self.devices)
        return first, second

    def decide(self) -> Decision:
        nodes, others = dict(self.nodes), dict(self.published)
        known = Known(nodes, others, self.stats(), self.routes, self.confirmed, {})
        return self.decisions.decide(1000.0, _NOW_NS, known)

    def turn(self) -> Decision:
        """A whole pass."""
        decision = self.decide()
        wished = dict(wishes(decision.desired, (4, 6), (4, 6)))
        for device, lane in zip(self.devices, decision.desired.lanes, strict=True):
            current = device.snapshot()
            change = difference(current, lane, {}, _NOW_NS)
            list(describe(current, change))
            device.configure(change)
        self.routes = {route.prefix: 0 for route in wanted_routes(wished["routes"]) if route.device}
        ruleset(wished["firewall"])
        lane_views(decision.plan, self.stats())
        peer_views(decision.plan, self.stats(), _NOW_NS, 180.0)
        self.confirmed = decision.publish
        return decision


def first_pass(count: int) -> Callable[[], object]:
    return Node(count).turn


def calm_pass(count: int) -> Callable[[], object]:
    node = Node(count)
    node.turn()
    node.turn()
    return node.turn


def pass_after_a_change(count: int) -> Callable[[], object]:
    node = Node(count)
    node.turn()
    node.published["node-7"] = published(7)
    return node.turn


def pass_with_a_new_node(count: int) -> Callable[[], object]:
    node = Node(count)
    node.turn()
    number = count + 1
    node.nodes["new"], node.published["new"] = facts(number), published(number)
    return node.turn


def pass_while_many_rotate(count: int) -> Callable[[], object]:
    """Every other node has a new key for the lane that waits here, and takes none of them."""
    node = Node(count)
    node.turn()
    node.decisions.lanes.request_rotation()
    rotation = node.turn().plan.rotation
    assert (rotation.stage, rotation.lane, len(rotation.waiting)) == ("drain", 1, count - 1)
    for number in range(1, count, 2):
        node.published[f"node-{number}"] = published(number)
    return node.turn


@pytest.mark.parametrize(
    "prepare",
    [first_pass, calm_pass, pass_after_a_change, pass_with_a_new_node, pass_while_many_rotate],
)
def test_a_pass_is_linear_in_the_nodes(prepare: Callable[[int], Callable[[], object]]) -> None:
    few, many = (calls(prepare(count)) for count in (_FEW, _MANY))
    assert many <= _TOLERANCE * few * _MANY / _FEW, f"{few} calls, {many} calls"


def test_a_calm_pass_does_not_look_at_prefixes_again() -> None:
    node = Node(_MANY)
    first = calls(node.decide)
    node.turn()
    assert calls(node.decide) < first / 3


def _listed(count: int) -> Callable[[], object]:
    """A start of the caches, which read all there is."""

    async def run() -> None:
        api, time = FakeApi(page=500), FakeTime()
        for number in range(count):
            name, told = f"node-{number}", published(number)
            node: Json = {"metadata": {"name": name, "uid": f"uid-{number}"}}
            api.put(f"{NODES}/{name}", node)
            api.put(f"{PUBLISHED}/{name}", told.to_object("uid"))
        kube = Kube(api, "node-0", lambda: None, time.pace, lambda: 0.0)
        task = asyncio.create_task(kube.run())
        await settle()
        assert len(kube.published) == count
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    return lambda: asyncio.run(run())


def test_the_start_of_the_caches_is_linear_in_the_nodes() -> None:
    few, many = (calls(_listed(count)) for count in (_FEW, _MANY))
    assert many <= _TOLERANCE * few * _MANY / _FEW, f"{few} calls, {many} calls"


def test_a_cache_keeps_nothing_that_is_not_used() -> None:
    """Of a Node as large as a kubelet writes it, a few words."""

    def size(value: object) -> int:
        if isinstance(value, (tuple, list)):
            return sys.getsizeof(value) + sum(map(size, value))
        return sys.getsizeof(value)

    images = [{"names": [f"image-{number}" * 20]} for number in range(100)]
    node: Json = {
        "metadata": {"name": "n", "uid": "u", "managedFields": [{"fieldsV1": {"f": images}}]},
        "spec": {"podCIDRs": ["10.244.1.0/24"]},
        "status": {"images": images, "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
    }
    kept = NodeFacts.from_object_untrusted(node)
    assert sum(size(getattr(kept, name)) for name in kept.__slots__) < 1000
