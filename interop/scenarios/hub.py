"""A hub with 50 spokes, each in a namespace of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from interop.counterparts.base import Implementation
from interop.netns import Lab
from interop.scenarios.registry import scenario
from interop.shell import expect
from interop.tunnel import PORT, End

_SPOKES = 50
_AT_ONCE = 10


@scenario(both_ways=False, alone=True)
def hub_and_fifty_spokes(lab: Lab, left: Implementation, right: Implementation) -> None:
    """Spokes initiate all at once, speak to the hub, and through it to each other.

    spoke 1 (right) ──┐
    spoke 2 (right) ──┤
       …              ├── bridge ── hub (left), forwards between them
    spoke 49 (right) ─┤
    spoke 50 (left) ──┘
    """
    hub = End(lab, lab.namespace("hub"), left, lab.interface_name("h"), 1, 1420)
    spokes = [
        End(
            lab, lab.namespace(f"s{n}"), left if n == _SPOKES else right, _name(lab, n), 1 + n, 1420
        )
        for n in range(1, _SPOKES + 1)
    ]
    lab.switch(hub.namespace, *(spoke.namespace for spoke in spokes))
    hub.namespace.forward()
    hub.join()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda spoke: _join(spoke, hub), spokes))
    words = (f"peer {s.keys.public} allowed-ips {s.inner(4)}/32,{s.inner(6)}/128" for s in spokes)
    hub.configure(" ".join(words))
    with ThreadPoolExecutor(_SPOKES) as pool:
        list(pool.map(lambda spoke: spoke.ping(hub, within=20), spokes))
        list(pool.map(lambda spoke: hub.ping(spoke, 6, within=20), spokes))
        nexts = zip(spokes, spokes[1:] + spokes[:1], strict=True)
        list(pool.map(lambda pair: pair[0].ping(pair[1], within=20), nexts))
    for column, wrong in (("latest-handshakes", "0"), ("endpoints", "(none)")):
        shown = hub.namespace.run("wg", "show", hub.interface, column).split()
        expect(len(shown) == 2 * _SPOKES, f"`wg show {column}` tells of {len(shown) // 2} peers")
        expect(wrong not in shown, f"`wg show {column}` has a peer with {wrong}")


def _name(lab: Lab, number: int) -> str:
    """The interface of a spoke."""
    return lab.interface_name(f"s{chr(97 + number // 26)}{chr(97 + number % 26)}")


def _join(spoke: End, hub: End) -> None:
    spoke.join()
    spoke.configure(
        f"peer {hub.keys.public} allowed-ips 10.90.0.0/24,fd90::/64 endpoint {hub.outer()}:{PORT}"
    )
