"""Pods attached by the real CNI plugins, as our file for the container runtime says."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest

from agent.network.attachments import read_attachments
from agent.network.cni import CniDesired, conflist
from agent.network.neighbours import Neighbours, NeighboursDesired
from interop.shell import run
from tests.system.agentnode import (
    FAR_POD,
    GATEWAY,
    LANES,
    LOCAL,
    Resources,
    advertisement,
    capture,
    flood,
    listener,
    nothing_comes,
    received_from,
    send,
    transmit,
)
from tests.system.tunhost import Namespace

pytestmark = pytest.mark.system

_PLUGINS = Path("/usr/lib/cni")
_MTU = 1380


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Namespace]:
    if not (_PLUGINS / "bridge").exists():
        pytest.fail("apt-get install containernetworking-plugins", pytrace=False)
    namespace = Namespace(f"an{os.getpid()}c")
    try:
        for lane in LANES:
            namespace.ip("tuntap", "add", lane, "mode", "tun")
        with namespace.inside():
            Resources(tmp_path).reconcile()
        yield namespace
    finally:
        namespace.remove()


@dataclass
class Pod:
    """A namespace that the plugin has attached."""

    space: Namespace
    addresses: dict[int, str]


@contextmanager
def _pod(node: Namespace, letter: str, state: Path) -> Iterator[Pod]:
    """A pod, attached as a container runtime does it: with a note of the result."""
    space = Namespace(f"an{os.getpid()}{letter}")
    try:
        whole = json.loads(conflist(CniDesired(tuple(LOCAL.values()), _MTU)))
        config = {"cniVersion": whole["cniVersion"], "name": whole["name"], **whole["plugins"][0]}
        # Not this machine's own list of addresses in use.
        config["ipam"]["dataDir"] = str(state / "ipam")
        words = {
            "CNI_CONTAINERID": space.name,
            "CNI_NETNS": f"/run/netns/{space.name}",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(_PLUGINS),
        }

        def plugin(command: str) -> str:
            environment = [f"{k}={v}" for k, v in {**words, "CNI_COMMAND": command}.items()]
            argv = ["env", *environment, str(_PLUGINS / "bridge")]
            with node.inside():
                return run(*argv, stdin=json.dumps(config))

        result = json.loads(plugin("ADD"))
        note = {"kind": "cniCacheV1", "networkName": whole["name"], "result": result}
        (state / "results").mkdir(exist_ok=True)
        noted = state / "results" / f"wgpy-{space.name}-eth0"
        noted.write_text(json.dumps(note))
        given = [ip["address"].split("/")[0] for ip in result["ips"]]
        yield Pod(space, {6 if ":" in address else 4: address for address in given})
        plugin("DEL")
        noted.unlink()
    finally:
        space.remove()


def test_pods_get_an_address_of_each_family_and_the_mtu(node: Namespace, tmp_path: Path) -> None:
    with _pod(node, "1", tmp_path) as pod:
        assert sorted(pod.addresses) == [4, 6]
        assert f"mtu {_MTU}" in pod.space.ip("link", "show", "eth0")
        assert f"via {GATEWAY[4]}" in pod.space.ip("route", "show", "default")
        assert f"via {GATEWAY[6]}" in pod.space.ip("-6", "route", "show", "default")
    # What a pod says while it is attached is nothing to count.
    with node.inside():
        assert {count.packets for count in Resources(tmp_path).firewall.counters().values()} == {0}


@pytest.mark.parametrize("version", [4, 6])
def test_pods_of_one_node_reach_each_other_and_pose_as_nobody(
    node: Namespace, tmp_path: Path, version: int
) -> None:
    with _pod(node, "1", tmp_path) as one, _pod(node, "2", tmp_path) as other:
        with listener(other.space, version) as sock:
            send(one.space, version, other.addresses[version])
            assert received_from(sock) == one.addresses[version]
        with listener(node, version) as sock:
            send(one.space, version, GATEWAY[version])
            assert received_from(sock) == one.addresses[version]
            send(one.space, version, GATEWAY[version], FAR_POD[version])
            assert nothing_comes(sock)


def test_the_bridge_that_the_plugin_makes_is_taken_into_the_agents_care(
    node: Namespace, tmp_path: Path
) -> None:
    resources = Resources(tmp_path)
    with _pod(node, "1", tmp_path):
        with node.inside():
            changed = resources.reconcile()
            assert any("MTU of wgpy-pods is 1420" in sentence for sentence in changed)
            assert resources.reconcile() == []
        assert f"inet {GATEWAY[4]}/24" in node.ip("address", "show", "dev", "wgpy-pods")


@pytest.fixture
def pods(node: Namespace, tmp_path: Path) -> Iterator[tuple[Pod, Pod, Pod]]:
    with ExitStack() as stack:
        one, two, three = (stack.enter_context(_pod(node, n, tmp_path)) for n in "123")
        yield one, two, three


@pytest.fixture
def neighbours(node: Namespace, pods: object, tmp_path: Path) -> Iterator[Neighbours]:
    made = Neighbours()
    with node.inside():
        assert made.reconcile(_attached(tmp_path)) != []
        assert made.reconcile(_attached(tmp_path)) == []
    yield made
    with node.inside():
        made.remove()


def _attached(state: Path) -> NeighboursDesired:
    links = [name for _, name in socket.if_nameindex()]
    return NeighboursDesired(read_attachments(state / "results", links))


def _spoofed(node: Namespace, neighbours: Neighbours) -> int:
    with node.inside():
        return neighbours.counters()["neighbour_spoof"].packets


@pytest.mark.parametrize("version", [4, 6])
def test_a_pod_that_poses_as_its_neighbour_is_dropped_and_counted(
    node: Namespace, pods: tuple[Pod, Pod, Pod], neighbours: Neighbours, version: int
) -> None:
    one, two, three = pods
    with listener(three.space, version) as sock:
        send(one.space, version, three.addresses[version])
        assert received_from(sock) == one.addresses[version]
        assert _spoofed(node, neighbours) == 0
        send(one.space, version, three.addresses[version], two.addresses[version])
        assert nothing_comes(sock)
    with listener(node, version) as sock:
        send(one.space, version, GATEWAY[version])
        assert received_from(sock) == one.addresses[version]
        send(one.space, version, GATEWAY[version], two.addresses[version])
        assert nothing_comes(sock)
    assert _spoofed(node, neighbours) == 2


@pytest.mark.parametrize("version", [4, 6])
def test_no_pod_is_taken_for_its_neighbour_while_others_come_and_go(
    node: Namespace,
    pods: tuple[Pod, Pod, Pod],
    neighbours: Neighbours,
    tmp_path: Path,
    version: int,
) -> None:
    one, two, three = pods
    with flood(one.space, three.addresses[version]), node.inside():
        all_of_them = _attached(tmp_path).attachments
        gone = ip_address(two.addresses[version])
        fewer = tuple(pod for pod in all_of_them if gone not in pod.addresses)
        assert len(fewer) == len(all_of_them) - 1
        for turn in range(40):
            told = Neighbours().reconcile(
                NeighboursDesired(fewer if turn % 2 == 0 else all_of_them)
            )
            assert len(told) == 1
    assert _spoofed(node, neighbours) == 0


def test_a_pod_with_another_hardware_address_says_nothing(
    node: Namespace, pods: tuple[Pod, Pod, Pod], neighbours: Neighbours
) -> None:
    one, _, three = pods
    one.space.ip("link", "set", "eth0", "address", "02:00:00:00:00:77")
    with listener(three.space, 4) as sock:
        send(one.space, 4, three.addresses[4])
        assert nothing_comes(sock)
    assert _spoofed(node, neighbours) > 0


@pytest.mark.parametrize("version", [4, 6])
def test_a_pod_cannot_say_that_its_neighbours_address_is_here(
    node: Namespace, pods: tuple[Pod, Pod, Pod], neighbours: Neighbours, version: int
) -> None:
    one, two, three = pods
    mac = one.space.ip("-o", "link", "show", "eth0").split("link/ether ")[1].split()[0]
    before = three.space.ip("neighbour")
    frame = advertisement(version, mac, two.addresses[version])
    with capture(three.space, "eth0") as seen:
        transmit(one.space, "eth0", frame)
        assert frame not in seen()
    assert three.space.ip("neighbour") == before
    assert _spoofed(node, neighbours) == 1
    # Of its own address it may.
    frame = advertisement(version, mac, one.addresses[version])
    with capture(three.space, "eth0") as seen:
        transmit(one.space, "eth0", frame)
        assert frame in seen()
    assert _spoofed(node, neighbours) == 1


@pytest.mark.parametrize("version", [4, 6])
def test_a_pod_that_is_not_known_yet_has_its_network_but_not_anothers_address(
    node: Namespace, pods: tuple[Pod, Pod, Pod], neighbours: Neighbours, tmp_path: Path,
    version: int,
) -> None:  # fmt: skip
    two, three = pods[1:]
    with _pod(node, "4", tmp_path) as new, listener(three.space, version) as sock:
        send(new.space, version, three.addresses[version])
        assert received_from(sock) == new.addresses[version]
        send(new.space, version, three.addresses[version], two.addresses[version])
        assert nothing_comes(sock)
        assert _spoofed(node, neighbours) == 1
        with node.inside():
            assert len(neighbours.reconcile(_attached(tmp_path))) == 1
        send(new.space, version, three.addresses[version])
        assert received_from(sock) == new.addresses[version]
