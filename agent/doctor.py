"""`wgpy-agent doctor`: what this node has, what it lacks, and what to do about it.

Only questions to the host and judgements of the answers. It needs no running agent, and says more
with one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from agent.control import ControlError, Json
from agent.machine import LANE_NAMES
from agent.network.base import NetworkError
from agent.network.cni import FILE
from agent.options import Options
from wgpy.dataplane import Availability

Verdict: TypeAlias = Literal["ok", "warning", "error"]

# What other agents leave on a node, by the beginning of an interface's name.
_OTHERS = {
    "cali": "Calico",
    "cilium": "Cilium",
    "cni0": "another CNI configuration",
    "flannel": "flannel",
    "kilo": "Kilo",
    "kube-bridge": "kube-router",
    "vxlan.calico": "Calico",
    "weave": "Weave Net",
    "wormhole": "Wormhole",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    verdict: Verdict
    what: str
    advice: str = ""


class Host(Protocol):
    """What a node has. Nothing is changed. NetworkError, OSError (DataPlaneError is one)."""

    def planes(self) -> Availability: ...

    def has_nftables(self) -> bool:
        """False: it has iptables. NetworkError if neither."""

    def families(self) -> Sequence[int]:
        """Versions of IP that the kernel has."""

    def usable_families(self) -> Sequence[int]:
        """Those of them that this host is to have."""

    def is_free(self, port: int) -> bool:
        """Whether nobody has the UDP port."""

    def holder(self, port: int) -> str | None:
        """The WireGuard interface that has it: of the kernel's, no process has a socket."""

    def devices(self) -> Sequence[str]:
        """Names of all interfaces."""

    def preceding(self) -> Sequence[str]:
        """Files that the container runtime takes instead of ours."""

    def status(self) -> Json:
        """What the agent of this node has to say. ControlError."""

    def path_mtu(self, address: str) -> int:
        """Bytes of the largest packet to `address`, as far as this host knows; 0: no route."""

    def comes_through(self, address: str, size: int) -> bool:
        """Whether a packet of `size` bytes gets there in one piece."""


def examine_node(host: Host, options: Options) -> Iterator[Finding]:
    """All that can be seen from this node alone."""
    for check in (_planes, _filter, _families, _ports, _other_agents, _other_networks, _agent):
        try:
            yield from check(host, options)
        except (NetworkError, OSError) as error:
            yield Finding("error", str(error))


def _planes(host: Host, options: Options) -> Iterator[Finding]:
    found = host.planes()
    for name, reason in (("kernel", found.kernel_reason), ("userspace", found.userspace_reason)):
        if not reason:
            yield Finding("ok", f"the {name} data plane is available")
        elif found.best is None or options.dataplane == name:
            yield Finding("error", f"no {name} data plane: {reason}", "see docs/troubleshooting.md")
        else:
            yield Finding("ok", f"no {name} data plane: {reason}")


def _filter(host: Host, _: Options) -> Iterator[Finding]:
    if host.has_nftables():
        yield Finding("ok", "nftables works")
    else:
        what = "nftables is missing: iptables is used, and pods of this node can pose as each other"
        yield Finding("warning", what, "install nftables")


def _families(host: Host, _: Options) -> Iterator[Finding]:
    if 6 in host.usable_families():
        yield Finding("ok", "this host has IPv4 and IPv6")
    elif 6 in host.families():
        advice = "fine, if the cluster has none; else set net.ipv6.conf.all.disable_ipv6 to 0"
        yield Finding("warning", "IPv6 is switched off on this host", advice)
    else:
        yield Finding("warning", "this host has no IPv6", "fine, if the cluster has none")


def _ports(host: Host, options: Options) -> Iterator[Finding]:
    for name, port in zip(LANE_NAMES, options.ports, strict=True):
        holder = host.holder(port)
        if host.is_free(port):
            yield Finding("ok", f"UDP port {port} is free")
        elif holder == name:
            yield Finding("ok", f"UDP port {port} is {name}'s")
        elif holder:
            advice = f"give {holder} another port; or choose another --port on all nodes"
            yield Finding("error", f"UDP port {port} is that of {holder}", advice)
        else:
            advice = f"find it with: ss -ulpn sport = {port}; or choose another --port on all nodes"
            yield Finding("error", f"UDP port {port} is somebody else's", advice)


def _other_agents(host: Host, _: Options) -> Iterator[Finding]:
    found = False
    for name in sorted(host.devices()):
        whose = next((who for start, who in _OTHERS.items() if name.startswith(start)), None)
        if whose is not None:
            found = True
            what = f"interface {name} is left by {whose}, or still in use by it"
            yield Finding(
                "warning", what, f"one pod network only; when it is gone: ip link del {name}"
            )
    if not found:
        yield Finding("ok", "no interface of another pod network")


def _other_networks(host: Host, options: Options) -> Iterator[Finding]:
    before = host.preceding()
    for name in before:
        what = f"the container runtime takes {name} before {FILE}"
        yield Finding("error", what, f"remove {options.cni_directory / name}")
    if not before:
        yield Finding("ok", f"no file of the container runtime comes before {FILE}")


def _agent(host: Host, options: Options) -> Iterator[Finding]:
    try:
        told = host.status()
    except ControlError as error:
        yield Finding("warning", str(error))
        return
    running = f"an agent runs, version {told['version']}, {told['backend']} data plane"
    yield Finding("ok", running)
    for problem in told["problems"]:
        verdict: Verdict = "error" if problem["severity"] == "error" else "warning"
        yield Finding(verdict, problem["what"], problem["advice"])
    for peer in told["peers"]:
        if not peer["ready"]:
            ports = " and ".join(map(str, options.ports))
            advice = f"see whether its agent runs and UDP {ports} pass between the nodes"
            yield Finding("error", f"no session with {peer['name']}", advice)
