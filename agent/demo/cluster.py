"""The demo's cluster: the lab with an API server, and what is started on its nodes."""

import json
import socket
import sys
from pathlib import Path
from typing import Any

from agent.control import ControlError, ask
from agent.demo.api import Api
from agent.demo.capture import API_PORT
from agent.demo.certificate import write_certificate
from agent.demo.lab import SWITCH_ADDRESS, Lab, Node
from agent.demo.shell import DemoError
from agent.kube import NODES

Json = dict[str, Any]

# Seconds between two keepalives: a rotation takes a few of them.
_KEEPALIVE = 5
_AGENT = (sys.executable, "-P", "-m", "agent")
# Lines of a log that are shown when something goes wrong.
_TAIL = 5


class Cluster:
    """`directory`: for logs, and what nodes sign in with; for root alone."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self._lab = lab
        self._directory = directory
        self.api = Api()

    def serve(self) -> None:
        """The API, from now on, at the switch."""
        listening = self._lab.switch.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.bind((SWITCH_ADDRESS, API_PORT))
        self._trusted, tls = write_certificate(self._directory, SWITCH_ADDRESS)
        self.api.start(listening, tls)

    def register(self, node: Node) -> None:
        """The Node object as kubelet and the controllers leave it."""
        addresses = [{"type": "InternalIP", "address": node.address}]
        told = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": node.name},
            "spec": {"podCIDR": node.pod_cidr, "podCIDRs": [node.pod_cidr]},
            "status": {"addresses": addresses},
        }
        self.api.do(lambda store: store.create(NODES, told))

    def start_agent(self, node: Node) -> None:
        """As the two DaemonSets do it: the process for data planes, and the agent itself."""
        node.start("dataplane", *_AGENT, "dataplane")
        words = ("run", f"--node={node.name}", f"--keepalive={_KEEPALIVE}s")
        node.start("agent", *_AGENT, *words, f"--kubeconfig={self._kubeconfig(node)}")

    def rotate(self, node: Node) -> None:
        """Ask for new keys. DemoError."""
        try:
            ask(node.control, "rotate")
        except ControlError as error:
            raise DemoError(f"{node.name}: {error}") from None

    def complaints(self) -> list[str]:
        """What the agents' logs end with, for who has to find out what went wrong."""
        told = []
        for path in sorted(self._directory.glob("*.log")):
            lines = path.read_text(errors="replace").splitlines()
            told += [f"{path.stem}: {line}" for line in lines[-_TAIL:]]
        return told

    def _kubeconfig(self, node: Node) -> Path:
        cluster = {
            "server": f"https://{SWITCH_ADDRESS}:{API_PORT}",
            "certificate-authority": str(self._trusted),
        }
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "demo", "cluster": cluster}],
            "users": [{"name": node.name, "user": {"token": self.api.token(node.name)}}],
            "contexts": [{"name": "demo", "context": {"cluster": "demo", "user": node.name}}],
            "current-context": "demo",
        }
        path = self._directory / f"{node.name}.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(json.dumps(config))
        return path
