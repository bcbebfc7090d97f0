"""Pods, attached to a node by the real CNI plugins, the way a container runtime does it."""

from __future__ import annotations

import json
import shlex
import socket
from dataclasses import dataclass
from ipaddress import ip_interface
from typing import Any

from interop.netns import Namespace
from tests.cluster.node import Node

PLUGINS = "/usr/lib/cni"
_CONFIGURATION = "/etc/cni/net.d"
_RESULTS = "/var/lib/cni/results"
_INTERFACE = "eth0"


@dataclass
class Pod:
    """A namespace on a node's network.

    :param addresses: by IP version.
    :param network: the file that it was attached by, which counts until it is detached.
    """

    name: str
    node: Node
    namespace: Namespace
    addresses: dict[int, str]
    network: dict[str, Any]
    detached: bool = False

    def run(self, *argv: str, timeout: float = 60) -> str:
        return self.namespace.run(*argv, timeout=timeout)

    def ping(self, address: str, size: int = 56, patience: float = 2, attempts: int = 3) -> None:
        """:raises CommandFailed: no answer to any of `attempts` requests of `size` bytes."""
        argv = f"ping -n -i 0.2 -W {patience} -c {attempts} -s {size} {address}"
        self.namespace.run(*argv.split(), timeout=patience * attempts + 10)

    def socket(self, kind: int, version: int) -> socket.socket:
        """A socket of the pod, used by the test itself."""
        family = socket.AF_INET6 if version == 6 else socket.AF_INET
        return self.namespace.socket(family, kind)


def attach(node: Node, name: str, namespace: Namespace) -> Pod:
    """ADD, plugin after plugin of the node's first file, and the runtime's note of the result."""
    network = _network(node)
    result: dict[str, Any] | None = None
    for plugin in network["plugins"]:
        result = json.loads(_call(node, namespace, "ADD", network, plugin, result))
    assert result is not None
    note = {"kind": "cniCacheV1", "networkName": network["name"], "result": result}
    path = _note(network["name"], namespace)
    script = f"mkdir -p {_RESULTS}; cat > {shlex.quote(path)}"
    node.run("sh", "-c", script, stdin=json.dumps(note))
    given = [ip_interface(ip["address"]).ip for ip in result["ips"]]
    addresses: dict[int, str] = {address.version: str(address) for address in given}
    return Pod(name, node, namespace, addresses, network)


def detach(pod: Pod) -> None:
    """DEL, the plugins from the last to the first, with the result noted at ADD; once."""
    if pod.detached:
        return
    pod.detached = True
    network = pod.network
    path = _note(network["name"], pod.namespace)
    result = json.loads(pod.node.run("cat", path))["result"]
    for plugin in reversed(network["plugins"]):
        _call(pod.node, pod.namespace, "DEL", network, plugin, result)
    pod.node.run("rm", path)


def _network(node: Node) -> dict[str, Any]:
    """The first file of the directory is the one that counts, as for every runtime."""
    names = sorted(node.run("ls", _CONFIGURATION).split())
    assert names, f"{node.name}: nothing in {_CONFIGURATION}, as on a node that is not ready"
    network: dict[str, Any] = json.loads(node.run("cat", f"{_CONFIGURATION}/{names[0]}"))
    return network


def _note(network: str, namespace: Namespace) -> str:
    return f"{_RESULTS}/{network}-{namespace.name}-{_INTERFACE}"


def _call(
    node: Node,
    namespace: Namespace,
    command: str,
    network: dict[str, Any],
    plugin: dict[str, Any],
    previous: dict[str, Any] | None,
) -> str:
    configuration = {"cniVersion": network["cniVersion"], "name": network["name"], **plugin}
    if previous is not None:
        configuration["prevResult"] = previous
    environment = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": namespace.name,
        "CNI_NETNS": f"/run/netns/{namespace.name}",
        "CNI_IFNAME": _INTERFACE,
        "CNI_PATH": PLUGINS,
    }
    words = [f"{name}={value}" for name, value in environment.items()]
    program = f"{PLUGINS}/{plugin['type']}"
    return node.run("env", *words, program, stdin=json.dumps(configuration))
