"""Many peers, small links, and an interface that moves house."""

from __future__ import annotations

import time

from interop.counterparts.base import Implementation
from interop.keys import new_key_pair
from interop.netns import Lab, Namespace, add_address
from interop.scenarios.registry import scenario
from interop.shell import expect
from interop.tunnel import End, ends, tunnel
from interop.wire import capture

_PEERS = 1000


@scenario(alone=True)
def thousand_peers(lab: Lab, left: Implementation, right: Implementation) -> None:
    """Right gets 1,000 peers in one `wg setconf`; left is one of them, and all are shown.

    left ── session ── right (1,000 peers)
    """
    a, b = ends(lab, left, right)
    known = new_key_pair().public
    strangers = [f"{known[:37]}{number:04d}{known[41:]}" for number in range(_PEERS - 1)]
    text = f"[Interface]\nPrivateKey = {b.keys.private}\nListenPort = 51820\n" + "".join(
        f"[Peer]\nPublicKey = {key}\nAllowedIPs = 10.91.{n >> 8}.{n & 255}/32\n"
        for n, key in enumerate(strangers)
    )
    text += f"[Peer]\nPublicKey = {a.keys.public}\nAllowedIPs = {a.inner()}/32\n"
    started = time.monotonic()
    b.namespace.run("wg", "setconf", b.interface, "/dev/stdin", stdin=text)
    took = time.monotonic() - started
    expect(took < 10, f"`wg setconf` took {took:.1f} s")
    a.add_peer(b, 4)
    a.ping(b)
    b.ping(a)
    shown = b.namespace.run("wg", "show", b.interface, "peers").split()
    expect(set(shown) == {*strangers, a.keys.public}, f"`wg show` names {len(shown)} peers")


@scenario()
def larger_than_the_link(lab: Lab, left: Implementation, right: Implementation) -> None:
    """The tunnel's MTU is 1420, the link takes 1280: what does not fit goes in fragments.

    left ══ 1420 ══ right
         ── 1280 ──
    """
    a, b = ends(lab, left, right, mtu=1420, outer_mtu=1280)
    b.add_peer(a)
    a.add_peer(b, 4)
    for inner, headers in ((4, 28), (6, 48)):
        a.ping(b, inner, f"-M do -s {1420 - headers}")
        b.ping(a, inner, f"-M do -s {1420 - headers}")


@scenario()
def moved_to_another_namespace(lab: Lab, left: Implementation, right: Implementation) -> None:
    """Left's interface moves into a namespace without any link; its UDP stays where it was born.

    inside: left's interface        left: eth0 ──── eth0: right
                 └──── UDP, still here ─┘
    """
    inside = lab.namespace("inside")
    a, b = tunnel(lab, left, right)
    a.ping(b)
    birthplace = _move(a, inside)
    with capture(birthplace, lab.directory) as wire:
        for version in (4, 6):
            a.ping(b, version)
            b.ping(a, version)
    expect(wire.messages(), "nothing on the link of the namespace that it was born in")


@scenario()
def birthplace_deleted(lab: Lab, left: Implementation, right: Implementation) -> None:
    """Left's interface has moved, and the namespace that it was born in is deleted.

    inside: left's interface        left: eth0 ──── eth0: right         "left" is deleted

    A daemon keeps its namespace alive, so all goes on. The kernel's interface stays, without
    sockets and without carrier, and once down cannot come up (ENONET). Both still answer `wg`.
    """
    inside = lab.namespace("inside")
    a, b = tunnel(lab, left, right)
    a.ping(b)
    _move(a, inside).delete()
    time.sleep(1)
    if a.reaches(b):
        time.sleep(0.1)  # two initiations of the same moment would be one too many
        a.namespace.ip(f"link set {a.interface} down")
        a.namespace.ip(f"link set {a.interface} up")
        a.ping(b)
    else:
        path = f"/sys/class/net/{a.interface}/carrier"
        expect(a.namespace.run("cat", path) == "0\n", "no carrier would explain the silence")
    expect(a.show("allowed-ips", b) == f"{b.inner(4)}/32 {b.inner(6)}/128", "the peer is gone")
    a.configure(f"peer {b.keys.public} persistent-keepalive 1")
    expect(a.show("persistent-keepalive", b) == "1", "the interface cannot be configured")


def _move(end: End, inside: Namespace) -> Namespace:
    """The end's interface goes elsewhere, where it gets its addresses; returns where it was."""
    end.namespace.ip(f"link set {end.interface} netns {inside.name}")
    birthplace, end.namespace = end.namespace, inside
    inside.ip(f"link set {end.interface} up")
    for version, bits in ((4, 24), (6, 64)):
        add_address(inside, end.interface, f"{end.inner(version)}/{bits}")
    return birthplace
