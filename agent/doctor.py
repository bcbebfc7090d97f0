"""`wgpy-agent doctor`: what this node has, what it lacks, and what to do about it. Blocking.

Nothing is changed. It needs no running agent, and says more with one.
"""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from errno import EADDRINUSE, EAFNOSUPPORT
from typing import Literal, TypeAlias

from agent.backend import probe_planes
from agent.control import ControlError, Json, ask
from agent.launcherclient import LauncherClient
from agent.machine import LANE_NAMES
from agent.network.base import NetworkError
from agent.network.cni import FILE, Cni
from agent.network.firewall import open_firewall
from agent.network.nft import is_available
from agent.network.rtnetlink import device_names, open_rtnetlink, present_families
from agent.network.sysctls import usable_families
from agent.options import Options
from wgpy import dataplane
from wgpy.dataplane import DataPlaneError

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


def examine_node(options: Options) -> Iterator[Finding]:
    """All that can be seen from this node alone."""
    for check in (_planes, _filter, _families, _ports, _other_agents, _other_networks, _agent):
        try:
            yield from check(options)
        except (NetworkError, DataPlaneError, OSError) as error:
            yield Finding("error", str(error))


def _planes(options: Options) -> Iterator[Finding]:
    starter = LauncherClient(options.launcher) if options.launcher else None
    found = probe_planes(starter)
    for name, reason in (("kernel", found.kernel_reason), ("userspace", found.userspace_reason)):
        wanted = options.dataplane in ("auto", name) and found.best in (None, name)
        if not reason:
            yield Finding("ok", f"the {name} data plane is available")
        elif found.best is None or options.dataplane == name:
            yield Finding("error", f"no {name} data plane: {reason}", "see docs/troubleshooting.md")
        else:
            yield Finding("ok" if not wanted else "warning", f"no {name} data plane: {reason}")


def _filter(_: Options) -> Iterator[Finding]:
    if is_available():
        yield Finding("ok", "nftables works")
        return
    open_firewall()
    what = "nftables is missing: iptables is used, and pods of this node can pose as each other"
    yield Finding("warning", what, "install nftables")


def _families(options: Options) -> Iterator[Finding]:
    if 6 in usable_families(options.proc_sys):
        yield Finding("ok", "this host has IPv4 and IPv6")
    elif 6 in present_families():
        advice = "fine, if the cluster has none; else set net.ipv6.conf.all.disable_ipv6 to 0"
        yield Finding("warning", "IPv6 is switched off on this host", advice)
    else:
        yield Finding("warning", "this host has no IPv6", "fine, if the cluster has none")


def _ports(options: Options) -> Iterator[Finding]:
    for name, port in zip(LANE_NAMES, options.ports, strict=True):
        if _is_free(port):
            yield Finding("ok", f"UDP port {port} is free")
        elif _listens(name, port):
            yield Finding("ok", f"UDP port {port} is {name}'s")
        else:
            advice = f"find it with: ss -ulpn sport = {port}; or choose another --port on all nodes"
            yield Finding("error", f"UDP port {port} is somebody else's", advice)


def _is_free(port: int) -> bool:
    for family, any_address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind((any_address, port))
        except OSError as error:
            if error.errno == EADDRINUSE:
                return False
            if error.errno != EAFNOSUPPORT:
                raise
    return True


def _listens(name: str, port: int) -> bool:
    try:
        return dataplane.get_interface(name).listen_port == port
    except DataPlaneError:
        return False


def _other_agents(_: Options) -> Iterator[Finding]:
    with open_rtnetlink() as ip:
        names = sorted(device_names(ip).values())
    found = False
    for name in names:
        whose = next((who for start, who in _OTHERS.items() if name.startswith(start)), None)
        if whose is not None:
            found = True
            what = f"interface {name} is left by {whose}, or still in use by it"
            yield Finding(
                "warning", what, f"one pod network only; when it is gone: ip link del {name}"
            )
    if not found:
        yield Finding("ok", "no interface of another pod network")


def _other_networks(options: Options) -> Iterator[Finding]:
    before = Cni(options.cni_directory).preceded_by()
    for name in before:
        what = f"the container runtime takes {name} before {FILE}"
        yield Finding("error", what, f"remove {options.cni_directory / name}")
    if not before:
        yield Finding("ok", f"no file of the container runtime comes before {FILE}")


def _agent(options: Options) -> Iterator[Finding]:
    try:
        told: Json = ask(options.control, "status")["status"]
    except ControlError as error:
        yield Finding("warning", str(error))
        return
    yield Finding("ok", f"an agent runs, version {told['version']}")
    for problem in told["problems"]:
        verdict: Verdict = "error" if problem["severity"] == "error" else "warning"
        yield Finding(verdict, problem["what"], problem["advice"])
    for peer in told["peers"]:
        if not peer["ready"]:
            ports = " and ".join(map(str, options.ports))
            advice = f"see whether its agent runs and UDP {ports} pass between the nodes"
            yield Finding("error", f"no session with {peer['name']}", advice)
