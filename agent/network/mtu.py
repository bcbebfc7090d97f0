"""How large a packet may be inside of the tunnel, on the path to each peer.

The outer path's MTU is what the kernel would use now: that of the route, where it has one or has
learnt one from ICMP, or that of the interface the route leaves by.
"""

from collections.abc import Iterable

from pyroute2.netlink.exceptions import NetlinkError

from agent.network.base import Address, explained
from agent.network.netlink import Connection
from agent.network.rtnetlink import open_rtnetlink, way_to

# IP header, UDP header, WireGuard's header of 16 bytes and its tag of 16.
OVERHEAD = {4: 20 + 8 + 32, 6: 40 + 8 + 32}
# Less is no IPv6 link (RFC 8200).
SMALLEST = 1280
# As Linux has it where nothing is known.
DEFAULT = 1420


def inner_mtu(outer: int, version: int) -> int:
    """Bytes of the largest inner packet on a path of `outer` bytes, over IPv4 or IPv6.

    Never below SMALLEST: on a path that is smaller still, the outer datagrams are fragmented.
    """
    return max(SMALLEST, outer - OVERHEAD[version])


def lane_mtu(paths: Iterable[int]) -> int:
    """The MTU of an interface over these inner paths: their largest, as routes have the others."""
    return max(paths, default=DEFAULT)


def path_mtus(endpoints: Iterable[Address]) -> dict[Address, int]:
    """Inner MTU of the path to each endpoint; endpoints without a route are left out.

    NetworkError if the kernel cannot be asked.
    """
    found: dict[Address, int] = {}
    try:
        with open_rtnetlink() as ip, Connection() as kernel:
            links = {link["index"]: link.get_attr("IFLA_MTU") for link in ip.get_links()}
            for endpoint in endpoints:
                outer = _outer_mtu(kernel, endpoint, links)
                if outer:
                    found[endpoint] = inner_mtu(outer, endpoint.version)
    except (OSError, NetlinkError) as error:
        raise explained("path MTU", error) from None
    return found


def _outer_mtu(kernel: Connection, endpoint: Address, links: dict[int, int]) -> int:
    try:
        link, learnt = way_to(kernel, endpoint)
    except NetlinkError:
        return 0  # no route, or no such family
    return learnt or links.get(link, 0)
