"""Nodes on one underlay, and pods on the nodes.

  API server (loopback of the machine, or of a guest's host)
       │ Relay
   br0 in the namespace `switch`: 198.18.0.1, 2001:2:0:1::1, everybody's default gateway
  ┌────┴────┬─────────┐  veth, `eth0` at the node
node 1    node 2    node 3       198.18.0.10+N   2001:2:0:1::10+N
  │ CNI bridge                   10.244.N.0/24   fd00:244:0:N::/64
pods
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from interop.netns import Lab, add_address
from tests.cluster.api import ApiError, Json
from tests.cluster.controlplane import UNDERLAY_ADDRESSES, Access
from tests.cluster.node import ACCOUNT, Node
from tests.cluster.plaintext import Detector
from tests.cluster.pod import Pod, attach, detach
from tests.cluster.relay import Relay

OVERLAY: dict[int, IPv4Network | IPv6Network] = {
    4: ip_network("10.244.0.0/16"),
    6: ip_network("fd00:244::/48"),
}
API_PORT = 6443
_NODES = "/api/v1/nodes"


class Cluster(contextlib.ExitStack):
    """`with` it: namespaces, processes and Node objects are gone at the end.

    :param prefix: of the names of its nodes, so that runs on one control plane do not meet.
    """

    def __init__(self, control_plane: Access, directory: Path, prefix: str, count: int):
        super().__init__()
        self.control_plane = control_plane
        self.directory = directory
        try:
            self._build(prefix, count)
        except BaseException:
            self.close()
            raise

    def _build(self, prefix: str, count: int) -> None:
        self.lab = self.enter_context(Lab(self.directory))
        names = [f"{prefix}-{number}" for number in range(1, count + 1)]
        members = [self.lab.namespace(f"node{number}") for number in range(1, count + 1)]
        self.switch = self.lab.switch(*members)
        for address in UNDERLAY_ADDRESSES:
            add_address(self.switch, "br0", _with_length(address))
        listening = [self._listening(address) for address in UNDERLAY_ADDRESSES]
        self.relay = Relay(listening, self.control_plane.host, self.control_plane.port)
        self.callback(self.relay.close)
        self.nodes: list[Node] = []
        for number, (name, namespace) in enumerate(zip(names, members, strict=True), start=1):
            for address in self.internal_ips(number):
                add_address(namespace, "eth0", _with_length(address))
            # What has no better way goes out in the clear, as on every machine.
            for gateway in UNDERLAY_ADDRESSES:
                namespace.run("ip", "route", "add", "default", "via", gateway)
            for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
                namespace.run("sysctl", "-qw", f"{key}=1")
            node = Node(name, namespace)
            self.callback(node.close)
            self.nodes.append(node)
            self.create_node(number)

    @staticmethod
    def internal_ips(number: int) -> list[str]:
        """On the underlay, of the node of that number (from 1)."""
        return [f"198.18.0.{10 + number}", f"2001:2:0:1::{10 + number}"]

    @staticmethod
    def pod_cidrs(number: int) -> list[str]:
        return [f"10.244.{number}.0/24", f"fd00:244:0:{number}::/64"]

    def create_node(self, number: int, pod_cidrs: list[str] | None = None) -> Json:
        """The Node object as kubelet and the controllers leave it; removed with the cluster."""
        admin, name = self.control_plane.admin, self.nodes[number - 1].name
        cidrs = self.pod_cidrs(number) if pod_cidrs is None else pod_cidrs
        spec = {"podCIDR": cidrs[0], "podCIDRs": cidrs} if cidrs else {}
        admin.create(_NODES, {"metadata": {"name": name}, "spec": spec})
        addresses = [{"type": "InternalIP", "address": a} for a in self.internal_ips(number)]
        addresses.append({"type": "Hostname", "address": name})
        self.callback(self.delete_node, number)
        return admin.merge(f"{_NODES}/{name}/status", {"status": {"addresses": addresses}})

    def delete_node(self, number: int) -> None:
        """The object only; nothing if it is gone already."""
        try:
            self.control_plane.admin.delete(f"{_NODES}/{self.nodes[number - 1].name}")
        except ApiError as error:
            if error.status != 404:
                raise

    def sign_in(self, number: int, namespace: str, account: str) -> dict[str, str]:
        """A pod of a ServiceAccount on that node, and its bound token where kubelet puts it.

        :returns: the environment of the pod's process; the official clients need no more.
        :raises ApiError: there is no such namespace or account.
        """
        node, admin = self.nodes[number - 1], self.control_plane.admin
        name = f"{account}-{node.name}"
        pods = f"/api/v1/namespaces/{namespace}/pods"
        container = {"name": account, "image": "none"}
        spec = {
            "serviceAccountName": account,
            "nodeName": node.name,
            "hostNetwork": True,
            "containers": [container],
        }
        admin.create(pods, {"metadata": {"name": name}, "spec": spec})
        self.callback(admin.delete, f"{pods}/{name}?gracePeriodSeconds=0")
        token = self.control_plane.account_token(namespace, account, pod=name)
        for file, text in (
            ("ca.crt", self.control_plane.ca.read_text()),
            ("namespace", namespace),
            ("token", token),
        ):
            path = node.path(f"{ACCOUNT}/{file}")
            path.touch(mode=0o600)
            path.write_text(text)
        return {
            "KUBERNETES_SERVICE_HOST": UNDERLAY_ADDRESSES[0],
            "KUBERNETES_SERVICE_PORT": str(API_PORT),
            "NODE_NAME": node.name,
            "POD_NAME": name,
        }

    def pod(self, number: int, name: str) -> Pod:
        """A new pod on the node of that number, attached by the plugins; gone with the cluster."""
        namespace = self.lab.namespace(f"pod{number}-{name}")
        pod = attach(self.nodes[number - 1], name, namespace)
        self.callback(detach, pod)
        return pod

    @contextlib.contextmanager
    def no_plaintext(self) -> Iterator[Detector]:
        """What leaves the nodes while the block runs holds nothing of the overlay in the clear.

        :raises AssertionError: it did, or the capture missed packets.
        """
        with self.capture() as detector:
            yield detector
        assert not detector.findings(), "\n".join(detector.findings()[:20])

    @contextlib.contextmanager
    def capture(self) -> Iterator[Detector]:
        """A detector that sees all that nodes send on the underlay; complete after the block."""
        detector = Detector(self.switch, self.directory, list(OVERLAY.values()))
        try:
            yield detector
        finally:
            detector.close()

    def _listening(self, address: str) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listening = self.switch.socket(family, socket.SOCK_STREAM)
        self.callback(listening.close)
        listening.bind((address, API_PORT))
        return listening


def _with_length(address: str) -> str:
    return f"{address}/64" if ":" in address else f"{address}/24"
