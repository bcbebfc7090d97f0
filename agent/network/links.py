"""The lanes and the pod bridge as interfaces: addresses, MTU, up."""

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from agent.network.base import Address, NetworkError, Report
from agent.network.rtnetlink import open_rtnetlink
from wgpy.protocol.config import Network

# linux/if.h, linux/if_addr.h
_IFF_UP = 1
_IFA_F_NODAD = 0x02
_IFA_F_NOPREFIXROUTE = 0x200
_RT_SCOPE_UNIVERSE = 0
_FULL = {4: 32, 6: 128}


@dataclass(frozen=True, slots=True)
class Link:
    """One interface. Its addresses of global scope are these and no others, if it is ours alone."""

    name: str
    # Bytes; 0 leaves it as it is.
    mtu: int = 0
    # Each alone, /32 and /128. None: addresses are somebody else's matter.
    addresses: tuple[Address, ...] | None = ()
    # The first address of each of these is there as well, and none that is in none of them, if
    # there are any: CNI tells pods that it is their gateway.
    pods: tuple[Network, ...] = ()
    # Otherwise it may be missing: without pod CIDRs there is no pod bridge.
    required: bool = True


@dataclass(frozen=True, slots=True)
class LinksDesired:
    """All interfaces of the agent; it makes none of them here."""

    links: tuple[Link, ...] = ()


class Links:
    """Addresses, MTU and state. What is removed with the interface needs no removing here."""

    name = "links"

    def reconcile(self, desired: LinksDesired) -> list[str]:
        report = Report()
        with report.step("links"), open_rtnetlink() as ip:
            present = {link.get_attr("IFLA_IFNAME"): link for link in ip.get_links()}
            for link in desired.links:
                with report.step(f"interface {link.name}"):
                    if link.name in present:
                        _put_link(ip, present[link.name], link, report)
                    elif link.required:
                        raise NetworkError(f"there is no interface {link.name}")
        return report.end()

    def remove(self) -> None:
        """Nothing: the lanes go by the backend, the pod bridge by its own resource."""


def _put_link(ip: Any, present: Any, wanted: Link, report: Report) -> None:
    """Up last: the first packet finds the MTU and the addresses."""
    index = present["index"]
    mtu = present.get_attr("IFLA_MTU")
    if wanted.mtu and mtu != wanted.mtu:
        with report.step(f"MTU of {wanted.name}"):
            ip.link("set", index=index, mtu=wanted.mtu)
            report.changed.append(f"MTU of {wanted.name} is {wanted.mtu}, it was {mtu}")
    if wanted.addresses is not None:
        _put_addresses(ip, index, wanted.name, wanted.addresses, report)
    elif wanted.pods:
        _put_gateways(ip, index, wanted.name, wanted.pods, report)
    if not present["flags"] & _IFF_UP:
        ip.link("set", index=index, state="up")
        report.changed.append(f"{wanted.name} is up, it was down")


def _put_addresses(
    ip: Any, index: int, name: str, wanted: tuple[Address, ...], report: Report
) -> None:
    present = _addresses(ip, index)
    exact = {(address, _FULL[address.version]) for address in wanted}
    # What is wrong goes first: IPv4 has an address with another length as another address.
    for address, length in present - exact:
        _drop_address(ip, index, name, address, length, report)
    for address, length in exact - present:
        # No route beside ours.
        _put_address(ip, index, name, address, length, _IFA_F_NOPREFIXROUTE, report)


def _put_gateways(
    ip: Any, index: int, name: str, pods: tuple[Network, ...], report: Report
) -> None:
    present = _addresses(ip, index)
    for address, length in present:
        # The gateway of a prefix that this node had once: CNI refuses pods while it is there.
        if not any(address in network for network in pods):
            _drop_address(ip, index, name, address, length, report)
    for network in pods:
        gateway = network.network_address + 1
        if (gateway, network.prefixlen) not in present:
            _put_address(ip, index, name, gateway, network.prefixlen, 0, report)


def _addresses(ip: Any, index: int) -> set[tuple[Address, int]]:
    """Of global scope, with the lengths of their prefixes."""
    return {
        (
            ip_address(found.get_attr("IFA_LOCAL") or found.get_attr("IFA_ADDRESS")),
            found["prefixlen"],
        )
        for found in ip.get_addr(index=index)
        if found["scope"] == _RT_SCOPE_UNIVERSE
    }


def _put_address(
    ip: Any, index: int, name: str, address: Address, length: int, flags: int, report: Report
) -> None:
    # No search for duplicates where nobody else is.
    flags = flags | _IFA_F_NODAD if address.version == 6 else 0
    with report.step(f"address {address}"):
        ip.addr("replace", index=index, address=str(address), prefixlen=length, flags=flags)
        report.changed.append(f"address {address} of {name} is set, it was missing")


def _drop_address(
    ip: Any, index: int, name: str, address: Address, length: int, report: Report
) -> None:
    with report.step(f"address {address}"):
        ip.addr("del", index=index, address=str(address), prefixlen=length)
        report.changed.append(f"address {address}/{length} of {name} is removed")
