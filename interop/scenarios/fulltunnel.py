"""All traffic through the tunnel, as wg-quick lays it; and what happens without its policy."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from interop.counterparts.base import Implementation
from interop.netns import Lab, add_address
from interop.router import routed_pair
from interop.scenarios.bulk import transfer
from interop.scenarios.registry import scenario
from interop.shell import expect
from interop.tunnel import PORT, End, tunnel
from interop.wire import capture

_ROUNDS = 40
"""Packets that one may become before it is too large: at least 32 bytes are added each time."""
_IP = """\
#!/bin/sh
case "$*" in
"link show dev {interface}") exit 1 ;;
"link add {interface} type wireguard") exit 0 ;;
esac
exec {ip} "$@"
"""
"""wg-quick wants to make the interface itself, but here it is there already."""


class Behind(End):
    """A host behind right, known by an address that only right's network has."""

    def inner(self, version: int = 4) -> str:
        return "10.82.0.3" if version == 4 else "fd82::3"


@scenario()
def full_tunnel(lab: Lab, left: Implementation, right: Implementation) -> None:
    """wg-quick at both ends, 0.0.0.0/0 and ::/0 on the left: a third host is reached through right.

    left ── router ── right ── behind (10.82.0.3, fd82::3)
    left: all traffic into the tunnel but its own, which is marked (policy routing);
          networks that it is in itself are still reached directly
    """
    a, b, router = routed_pair(lab, left, right, start=False)
    behind = Behind(lab, lab.namespace("behind"), right, "none", 3, 1420)
    lab.link(behind.namespace, b.namespace, right_device="eth1")
    for version, net, bits in ((4, "10.82.0.", 24), (6, "fd82::", 64)):
        add_address(behind.namespace, "eth0", f"{behind.inner(version)}/{bits}")
        add_address(b.namespace, "eth1", f"{net}2/{bits}")
        behind.namespace.ip(f"-{version} route add default via {net}2")
    b.namespace.forward()
    _quick_up(b, a, "10.90.0.1/32, fd90::1/128", "")
    _quick_up(a, b, "0.0.0.0/0, ::/0", f"Endpoint = {b.endpoint()}\n")
    with capture(router, lab.directory, "eth1") as wire:
        for version in (4, 6):
            a.ping(behind, version)
            a.ping(b, version)
            b.ping(a, version)
            behind.ping(a, version)
            transfer(a, behind, version, forwards=True, backwards=True, length=1 << 18)
        a.namespace.run("ping", "-n", "-c", "1", "-W", "5", "10.81.0.9")
    for _, frame in wire.frames:
        if frame[12:14] == b"\x08\x00":
            inside = (b"\x0a\x5a", b"\x0a\x52")  # 10.90 and 10.82
            expect(frame[30:32] not in inside, "a packet for inside went outside")
        if frame[12:14] == b"\x86\xdd":
            expect(frame[38:40] not in (b"\xfd\x90", b"\xfd\x82"), "a v6 packet went outside")


def _quick_up(end: End, peer: End, allowed: str, more: str) -> None:
    log = end.lab.directory / f"{end.interface}.log"
    end.running = end.implementation.start(end.interface, end.namespace, log)
    end.lab.callback(end.running.stop)
    directory = end.lab.directory / f"quick-{end.interface}"
    directory.mkdir(mode=0o700)
    quick = Path(shutil.copy(shutil.which("wg-quick") or "wg-quick", directory))
    shim = directory / "ip"
    shim.write_text(_IP.format(interface=end.interface, ip=shutil.which("ip")))
    shim.chmod(0o700)
    config = directory / f"{end.interface}.conf"
    config.touch(0o600)
    config.write_text(
        f"[Interface]\nPrivateKey = {end.keys.private}\nListenPort = {PORT}\n"
        f"Address = {end.inner(4)}/32, {end.inner(6)}/128\n"
        f"[Peer]\nPublicKey = {peer.keys.public}\nAllowedIPs = {allowed}\n{more}"
    )
    end.namespace.run(str(quick), "up", str(config))


@scenario(alone=True)
def routing_loop(lab: Lab, left: Implementation, right: Implementation) -> None:
    """The way to the endpoint leads into the tunnel itself: nothing runs away, nor stays broken.

    left ── session ── right
    left: 0.0.0.0/0 for right, and now a route to right's outer address through the tunnel
    left ── echo request ──> tunnel ──> tunnel …      ends; then the route goes, and all is well

    In the kernel each packet goes round 18 times, until it has outgrown the MTU and is dropped.
    """
    a, b = tunnel(lab, left, right)
    a.configure(f"peer {b.keys.public} allowed-ips 0.0.0.0/0,::/0")
    a.ping(b)
    a.namespace.ip(f"route add {b.outer()}/32 dev {a.interface}")
    before = _sent(a)
    for number in range(1, 4):
        expect(not a.reaches(b), "an echo came back although the tunnel leads into itself")
        went = _sent(a) - before
        expect(went <= number * _ROUNDS, f"{number} echo requests made {went} packets")
    time.sleep(1)
    expect(_sent(a) - before == went, "packets go round although nobody sends any")
    a.namespace.ip(f"route delete {b.outer()}/32 dev {a.interface}")
    a.ping(b)


def _sent(end: End) -> int:
    """Packets that the host gave to the interface."""
    path = f"/sys/class/net/{end.interface}/statistics/tx_packets"
    return int(end.namespace.run("cat", path))
