"""Attaches a pod the way a container runtime does it: the CNI plugins that the agent names."""

import json
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from agent.demo.lab import Namespace, Node
from agent.demo.shell import DemoError
from agent.network.attachments import RESULTS
from agent.network.cni import DIRECTORY, FILE

# Of Debian, and of everybody else.
_PLUGINS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
_NEEDED = ("bridge", "host-local", "portmap")
_INTERFACE = "eth0"


def plugins() -> Path:
    """Where they are. DemoError if they are not there."""
    for directory in _PLUGINS:
        if all((directory / name).exists() for name in _NEEDED):
            return directory
    advice = "apt-get install containernetworking-plugins"
    raise DemoError(f"the CNI plugins {', '.join(_NEEDED)} are missing: {advice}")


def is_configured(node: Node) -> bool:
    """Whether the agent has said how pods are attached."""
    try:
        node.run("test", "-s", str(DIRECTORY / FILE))
    except DemoError:
        return False
    return True


def attach(node: Node, pod: Namespace, directory: Path) -> str:
    """ADD, plugin after plugin, and the runtime's note of the result; the pod's address.

    DemoError.
    """
    network = json.loads(node.run("cat", str(DIRECTORY / FILE)))
    result: dict[str, Any] = {}
    for plugin in network["plugins"]:
        configuration = {"cniVersion": network["cniVersion"], "name": network["name"], **plugin}
        if result:
            configuration["prevResult"] = result
        environment = {
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": pod.name,
            "CNI_NETNS": f"/run/netns/{pod.name}",
            "CNI_IFNAME": _INTERFACE,
            "CNI_PATH": str(directory),
        }
        words = [f"{name}={value}" for name, value in environment.items()]
        program = str(directory / plugin["type"])
        result = json.loads(node.run("env", *words, program, stdin=json.dumps(configuration)))
    note = {"kind": "cniCacheV1", "networkName": network["name"], "result": result}
    path = RESULTS / f"{network['name']}-{pod.name}-{_INTERFACE}"
    script = 'mkdir -p "$(dirname "$0")" && cat > "$0"'
    node.run("sh", "-c", script, str(path), stdin=json.dumps(note))
    return str(ip_interface(result["ips"][0]["address"]).ip)
