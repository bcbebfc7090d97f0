"""A real NAT: netfilter's masquerade between the ends, whose port changes."""

from __future__ import annotations

import time

from interop.counterparts.base import Implementation
from interop.netns import Lab, Namespace
from interop.router import routed_pair
from interop.scenarios.registry import scenario
from interop.shell import expect, wait_until
from interop.wire import INITIATION, capture

_OUTSIDE = "10.80.0.9"
_RULES = """\
table ip hidden
delete table ip hidden
table ip hidden {{
    chain out {{
        type nat hook postrouting priority 100
        oifname "eth0" meta l4proto udp masquerade to :{port}
    }}
}}
"""


@scenario()
def nat_changes_port(lab: Lab, left: Implementation, right: Implementation) -> None:
    """The NAT forgets left and gives it another port: right gets through, left sends no data.

    left ── router, masquerades as 10.80.0.9:41001 ──> right
    router: rule replaced, connections flushed
    left ── keepalive, as 10.80.0.9:41002 ──> right         every second
    right ── echo request to 10.80.0.9:41002 ──> left

    The session goes on throughout. Without a keepalive right knocks in vain until left speaks.
    """
    a, b, router = routed_pair(lab, left, right)
    _masquerade(router, 41001)
    b.add_peer(a)
    a.add_peer(b, 4, "persistent-keepalive 1")
    a.ping(b)
    expect(b.show("endpoints", a) == f"{_OUTSIDE}:41001", "the NAT is not in the way")
    with capture(b.namespace, lab.directory) as wire:
        for port in (41002, 41003):
            _masquerade(router, port)
            wait_until(
                f"right hears of port {port}",
                lambda port=port: b.show("endpoints", a) == f"{_OUTSIDE}:{port}",  # type: ignore[misc]
                3,
            )
            b.ping(a)
        a.configure(f"peer {b.keys.public} persistent-keepalive 0")
        time.sleep(1.2)
        _masquerade(router, 41004)
        expect(not b.reaches(a), "right got through a NAT that knows nothing of left")
        a.ping(b)
        b.ping(a)
    expect(b.show("endpoints", a) == f"{_OUTSIDE}:41004", "right did not follow to the last port")
    expect(not wire.messages(INITIATION), "a new port made a new session")


def _masquerade(router: Namespace, port: int) -> None:
    """From now on left is seen behind this port; what the NAT knew is forgotten."""
    router.run("nft", "-f", "-", stdin=_RULES.format(port=port))
    router.run("conntrack", "-F")
