"""Rules of others on a node, as they make them: kube-proxy, a policy controller, Docker.

A UDP service `default/echo` at SERVICE and NODE_PORT, whose one endpoint is the far pod.
"""

from __future__ import annotations

from pathlib import Path

from interop.shell import run
from tests.system.agentnode import FAR_POD, NODE, OVERLAY, POD, PORT

SERVICE = {4: "10.96.0.50", 6: "fd00:96::50"}
NODE_PORT = 30400
# Whom the network policy lets in, and whom it does not.
STRANGER = {4: "10.244.2.66", 6: "fd00:244:0:2::66"}
_FULL = {4: "/32", 6: "/128"}
_LOOPBACK = {4: "127.0.0.0/8", 6: "::1/128"}
_TO = {4: "{}:{}", 6: "[{}]:{}"}

_RULES = Path(__file__).parent / "rules"
# Files, in the order in which they are loaded.
KINDS = {
    "kube-proxy iptables": ("kube-proxy.iptables",),
    "kube-proxy nftables": ("kube-proxy.nft",),
    "network policy": ("network-policy.iptables",),
    "docker": ("docker.iptables",),
    "reject": ("reject.iptables",),
    "docker and kube-proxy": ("docker.iptables", "kube-proxy.iptables"),
    "docker and network policy": ("docker.iptables", "network-policy.iptables"),
}


def load(kind: str, variant: str) -> None:
    """In the network namespace of the caller; `variant` of iptables."""
    for name in KINDS[kind]:
        for version in (4, 6):
            text = (_RULES / name).read_text().format_map(_words(version))
            if name.endswith(".nft"):
                run("nft", "-f", "-", stdin=text)
            else:
                program = f"{'iptables' if version == 4 else 'ip6tables'}{variant}-restore"
                run(program, "--noflush", stdin=text)


def _words(version: int) -> dict[str, object]:
    return {
        "address": f"ipv{version}_addr",
        "docker": {4: "172.17.0.0/16", 6: "fd00:d0c::/64"}[version],
        "far": FAR_POD[version],
        "full": _FULL[version],
        "ip": "ip" if version == 4 else "ip6",
        "loopback": _LOOPBACK[version],
        "node": NODE[version],
        "node_port": NODE_PORT,
        "overlay": OVERLAY[version],
        "pod": POD[version],
        "port": PORT,
        "service": SERVICE[version],
        "to": _TO[version].format(FAR_POD[version], PORT),
    }
