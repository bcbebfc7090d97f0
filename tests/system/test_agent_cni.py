"""Pods attached by the real CNI plugins, as our file for the container runtime says."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.network.cni import CniDesired, conflist
from interop.shell import run
from tests.system.agentnode import (
    FAR_POD,
    GATEWAY,
    LANES,
    LOCAL,
    Resources,
    listener,
    nothing_comes,
    received_from,
    send,
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


@contextmanager
def _pod(node: Namespace, letter: str, state: Path) -> Iterator[tuple[Namespace, dict[int, str]]]:
    """A namespace that the plugin attaches, and its addresses."""
    pod = Namespace(f"an{os.getpid()}{letter}")
    try:
        whole = json.loads(conflist(CniDesired(tuple(LOCAL.values()), _MTU)))
        config = {"cniVersion": whole["cniVersion"], "name": whole["name"], **whole["plugins"][0]}
        # Not this machine's own list of addresses in use.
        config["ipam"]["dataDir"] = str(state)
        words = {
            "CNI_CONTAINERID": pod.name,
            "CNI_NETNS": f"/run/netns/{pod.name}",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(_PLUGINS),
        }

        def plugin(command: str) -> str:
            environment = [f"{k}={v}" for k, v in {**words, "CNI_COMMAND": command}.items()]
            argv = ["env", *environment, str(_PLUGINS / "bridge")]
            with node.inside():
                return run(*argv, stdin=json.dumps(config))

        given = [ip["address"].split("/")[0] for ip in json.loads(plugin("ADD"))["ips"]]
        yield pod, {6 if ":" in address else 4: address for address in given}
        plugin("DEL")
    finally:
        pod.remove()


def test_pods_get_an_address_of_each_family_and_the_mtu(node: Namespace, tmp_path: Path) -> None:
    with _pod(node, "1", tmp_path) as (pod, addresses):
        assert sorted(addresses) == [4, 6]
        assert f"mtu {_MTU}" in pod.ip("link", "show", "eth0")
        assert f"via {GATEWAY[4]}" in pod.ip("route", "show", "default")
        assert f"via {GATEWAY[6]}" in pod.ip("-6", "route", "show", "default")
    # What a pod says while it is attached is nothing to count.
    with node.inside():
        assert {count.packets for count in Resources(tmp_path).firewall.counters().values()} == {0}


@pytest.mark.parametrize("version", [4, 6])
def test_pods_of_one_node_reach_each_other_and_pose_as_nobody(
    node: Namespace, tmp_path: Path, version: int
) -> None:
    with _pod(node, "1", tmp_path) as (one, ones), _pod(node, "2", tmp_path) as (other, others):
        with listener(other, version) as sock:
            send(one, version, others[version])
            assert received_from(sock) == ones[version]
        with listener(node, version) as sock:
            send(one, version, GATEWAY[version])
            assert received_from(sock) == ones[version]
            send(one, version, GATEWAY[version], FAR_POD[version])
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
