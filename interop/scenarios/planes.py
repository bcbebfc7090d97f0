"""One node, two data planes under the same tools: exchanged under traffic, and back."""

from __future__ import annotations

import time
from contextlib import ExitStack

from interop.counterparts.base import Implementation
from interop.echoes import INTERVAL, Echoes
from interop.keys import new_key_pair, new_preshared_key
from interop.netns import Lab, add_address
from interop.scenarios.registry import scenario
from interop.shell import expect, wait_until
from interop.tunnel import End, ends, wait_for_handshake

_MANY = "10.92.3.0/24,10.91.0.0/16,10.91.7.7/32,fd92::/32,fd91:7::/48,fd91::1/128,0.0.0.0/1"
_GRACE = 1.5
"""Seconds of traffic that may be lost on top of the exchange itself: a handshake, a slow guest."""


@scenario(alone=True)
def planes_swapped_under_traffic(lab: Lab, left: Implementation, right: Implementation) -> None:
    """Right's interface is replaced by left's kind, and back, by `wg showconf` and `wg setconf`.

    left ══ echoes both ways, 5 a second ══ right (its own kind)
                                            right (left's kind): same keys, port, peers
                                            right (its own kind)

    `wg showconf` and `wg show dump` tell the same before and after each exchange, apart from
    order, handshake times and byte counts; echoes are lost only while there is no interface.
    """
    a, b = ends(lab, left, right)
    psk = new_preshared_key()
    a.add_peer(b, 4, psk=psk)
    b.add_peer(a, 4, "persistent-keepalive 25", psk)
    b.configure(f"fwmark 0x4711 peer {new_key_pair().public} allowed-ips {_MANY}")
    a.ping(b)
    wait_for_handshake(a, b)
    with ExitStack() as running:
        forwards, backwards = (Echoes(running, *way) for way in ((a, b), (b, a)))
        time.sleep(1)
        gone = 0.0
        for kind in (left, right):
            gone += _exchange(b, kind)
            wait_until("left gets through again", lambda: a.reaches(b), 10)
        time.sleep(1)
        for echoes in (forwards, backwards):
            lost, most = echoes.lost(), int((gone + 2 * _GRACE) / INTERVAL)
            expect(
                lost <= most, f"{lost} echoes lost; {gone:.1f} s without interface explain {most}"
            )


def _exchange(end: End, kind: Implementation) -> float:
    """Another implementation takes over the interface; returns how long there was none."""
    config, settings, dump = _told(end)
    assert end.running is not None
    started = time.monotonic()
    end.running.stop()
    log = end.lab.directory / f"{end.interface}-{kind.name}.log"
    end.running = kind.start(end.interface, end.namespace, log)
    end.lab.callback(end.running.stop)
    end.implementation = kind
    end.namespace.run("wg", "setconf", end.interface, "/dev/stdin", stdin=config)
    end.namespace.ip(f"link set {end.interface} mtu {end.mtu} up")
    add_address(end.namespace, end.interface, f"{end.inner(4)}/24")
    add_address(end.namespace, end.interface, f"{end.inner(6)}/64")
    gone = time.monotonic() - started
    _, now, shown = _told(end)
    expect(now == settings, f"`wg showconf` is another after {kind.name} took over")
    expect(shown == dump, f"`wg show dump` is another after {kind.name} took over")
    return gone


def _told(end: End) -> tuple[str, list[list[str]], list[list[str]]]:
    """What `wg showconf` says, the same in an order of its own, and so what `wg show dump` says.

    The order of peers and of prefixes is nobody's business; handshake times and byte counts, which
    come with traffic, are left out.
    """
    config = end.namespace.run("wg", "showconf", end.interface)
    sections = [sorted(map(_in_order, part.splitlines())) for part in config.split("\n\n")]
    own, *peers = end.namespace.run("wg", "show", end.interface, "dump").splitlines()
    cells = [line.split("\t") for line in peers]
    lasting = [[*words[:3], _in_order(words[3]), words[7]] for words in cells]
    return config, sorted(sections), [own.split("\t"), *sorted(lasting)]


def _in_order(text: str) -> str:
    return " ".join(sorted(text.replace(",", " ").split()))
