"""The bridge that pods are on.

The CNI plugin would make it with the first pod. Here it is before there are pods, so that its
settings are as well: where the host has IPv6 switched off for new interfaces, the plugin could give
no IPv6 address to a bridge of its own, and the first pods would fail.
"""

from dataclasses import dataclass
from os import urandom
from typing import Any

from pyroute2.netlink.exceptions import NetlinkError

from agent.network.base import POD_BRIDGE, NetworkError, Report, explained
from agent.network.rtnetlink import open_rtnetlink


@dataclass(frozen=True, slots=True)
class BridgeDesired:
    """Whether this node has a pod network. If not, what bridge there is belongs to its pods."""

    wanted: bool = False


class Bridge:
    """The interface itself; agent.network.links has its MTU and addresses, and that it is up."""

    name = "bridge"

    def reconcile(self, desired: BridgeDesired) -> list[str]:
        report = Report()
        with report.step(POD_BRIDGE), open_rtnetlink() as ip:
            if desired.wanted and not ip.link_lookup(ifname=POD_BRIDGE):
                # A given address stays, others change with the ports. Pods remember it.
                ip.link("add", ifname=POD_BRIDGE, kind="bridge", address=_new_mac())
                report.changed.append(f"{POD_BRIDGE} is made, it was missing")
        return report.end()

    def remove(self) -> None:
        """It belongs to the pods as long as there are any: then NetworkError."""
        try:
            with open_rtnetlink() as ip:
                for index in ip.link_lookup(ifname=POD_BRIDGE):
                    if _has_ports(ip, index):
                        advice = f"drain this node, then: ip link del {POD_BRIDGE}"
                        raise NetworkError(f"pods are still attached to {POD_BRIDGE}", advice)
                    ip.link("del", index=index)
        except (OSError, NetlinkError) as error:
            raise explained(POD_BRIDGE, error) from None


def _new_mac() -> str:
    """Of no vendor (IEEE 802: locally administered), for one interface."""
    return ":".join(f"{byte:02x}" for byte in (2, *urandom(5)))


def _has_ports(ip: Any, bridge: int) -> bool:
    return any(link.get_attr("IFLA_MASTER") == bridge for link in ip.get_links())
