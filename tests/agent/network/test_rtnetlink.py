"""Routes as the kernel tells them; another library writes the messages."""

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from agent.network.base import PROTOCOL, TABLE
from agent.network.rtnetlink import (
    FAMILIES,
    GUARD_METRIC,
    MAIN,
    KernelRoute,
    route_from_kernel,
    unicast,
    unreachable,
)

_POD4, _POD6 = ip_network("10.244.2.0/24"), ip_network("fd00:244:0:2::/64")
_NAMES = {7: "wgpy0"}
_UNICAST, _BLACKHOLE, _UNREACHABLE = 1, 6, 7
_CLONED = 0x200
_HEADER = 16


def _told(prefix: str, *attributes: tuple[str, Any], **fields: int) -> bytes:
    network = ip_network(prefix)
    message = rtmsg()
    message["family"] = FAMILIES[network.version]
    message["dst_len"] = network.prefixlen
    message["proto"] = PROTOCOL
    message["table"] = MAIN
    message["type"] = _UNICAST
    for name, value in fields.items():
        message[name] = value
    if network.prefixlen:
        message["attrs"].append(("RTA_DST", str(network.network_address)))
    message["attrs"] += attributes
    message.encode()
    return bytes(message.data[_HEADER:])


@pytest.mark.parametrize(
    ("told", "route"),
    [
        (_told(str(_POD4), ("RTA_OIF", 7)), unicast(_POD4, "wgpy0")),
        (
            _told(
                str(_POD6),
                ("RTA_OIF", 7),
                ("RTA_PRIORITY", 1),
                ("RTA_METRICS", {"attrs": [("RTAX_MTU", 1300)]}),
                ("RTA_PREFSRC", "fd00:244:0:3::1"),
            ),
            unicast(_POD6, "wgpy0", mtu=1300, source=ip_address("fd00:244:0:3::1")),
        ),
        (
            _told("192.0.2.2/32", ("RTA_OIF", 7), ("RTA_TABLE", TABLE), table=0),
            unicast(ip_network("192.0.2.2/32"), "wgpy0", TABLE),
        ),
        (
            _told(str(_POD4), ("RTA_PRIORITY", GUARD_METRIC), type=_UNREACHABLE),
            unreachable(_POD4),
        ),
        # IPv6's unreachable routes lead to lo.
        (
            _told(str(_POD6), ("RTA_PRIORITY", GUARD_METRIC), ("RTA_OIF", 1), type=_UNREACHABLE),
            unreachable(_POD6),
        ),
        # What others have made of ours.
        (
            _told("0.0.0.0/0", ("RTA_OIF", 9), ("RTA_GATEWAY", "192.0.2.1")),
            KernelRoute(ip_network("0.0.0.0/0"), MAIN, 0, "?", gateway=ip_address("192.0.2.1")),
        ),
        (
            _told("::/0", ("RTA_OIF", 7), ("RTA_GATEWAY", "fe80::1")),
            KernelRoute(ip_network("::/0"), MAIN, 0, "wgpy0", gateway=ip_address("fe80::1")),
        ),
    ],
)
def test_a_route_is_read_as_it_is(told: bytes, route: KernelRoute) -> None:
    assert route_from_kernel(told, _NAMES) == route


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"proto": 4}, id="of others"),
        pytest.param({"type": _BLACKHOLE}, id="of a type that is never ours"),
        pytest.param({"flags": _CLONED}, id="of what was learnt about a path"),
    ],
)
def test_what_is_not_ours_to_keep_is_left_out(fields: dict[str, int]) -> None:
    assert route_from_kernel(_told(str(_POD6), ("RTA_OIF", 7), **fields), _NAMES) is None
