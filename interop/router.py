"""A router between the two ends: a NAT, a narrow path, or a host of its own behind right.

┌─ left ──────────────┐   ┌─ router ──────────────────┐   ┌─ right ─────────────┐
│ 10.81.0.1  fd81::1  │   │ 10.81.0.9       10.80.0.9 │   │ 10.80.0.2  fd80::2  │
│                eth0 │───│ eth1  fd81::9  fd80::9  eth0 │───│ eth0                │
└─────────────────────┘   └───────────────────────────┘   └─────────────────────┘
"""

from __future__ import annotations

from interop.counterparts.base import Implementation
from interop.netns import Lab, Namespace, add_address
from interop.tunnel import End


class FarEnd(End):
    """An end in the network on the router's other side."""

    def outer(self, version: int = 4) -> str:
        return super().outer(version).replace("80", "81", 1)


def routed_pair(
    lab: Lab,
    left: Implementation,
    right: Implementation,
    mtu: int = 1420,
    outer_mtu: int = 1500,
    start: bool = True,
) -> tuple[End, End, Namespace]:
    """The topology above, both interfaces up if asked for, no peers yet; the third is the router.

    :param outer_mtu: of the link between the router and right.
    """
    a = FarEnd(lab, lab.namespace("left"), left, lab.interface_name("l"), 1, mtu)
    b = End(lab, lab.namespace("right"), right, lab.interface_name("r"), 2, mtu)
    router = lab.namespace("router")
    lab.link(a.namespace, router, mtu=1500, right_device="eth1")
    lab.link(router, b.namespace, mtu=outer_mtu)
    router.forward()
    for device, net in (("eth1", 81), ("eth0", 80)):
        add_address(router, device, f"10.{net}.0.9/24")
        add_address(router, device, f"fd{net}::9/64")
    for end, net in ((a, 81), (b, 80)):
        end.settle()
        end.namespace.ip(f"route add default via 10.{net}.0.9")
        end.namespace.ip(f"-6 route add default via fd{net}::9")
        if start:
            end.start()
    return a, b, router
