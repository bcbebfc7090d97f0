"""Much at once: TCP through the offloads, and packets of every size up to the largest."""

from __future__ import annotations

import itertools
import random
import socket
import threading
from collections.abc import Iterator

from interop.counterparts.base import Implementation
from interop.netns import Lab
from interop.scenarios.registry import scenario
from interop.shell import expect
from interop.tunnel import End, tunnel

_BYTES = 8 << 20
_PATIENCE = 60.0
"""Seconds that one transfer may take."""
_OFFLOADS = ("tx", "sg", "tso", "gso", "gro")
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


@scenario(both_ways=False, alone=True)
def tcp_bulk(lab: Lab, left: Implementation, right: Implementation) -> None:
    """8 MiB each way, one after the other and both at once; every byte is compared.

    left ══ TCP over v4, over v6 ══ right       segments of up to 64 KiB enter and leave
    """
    a, b = tunnel(lab, left, right)
    a.ping(b)
    for inner in (4, 6):
        transfer(a, b, inner, forwards=True, backwards=False)
        transfer(a, b, inner, forwards=False, backwards=True)
        transfer(a, b, inner, forwards=True, backwards=True)


@scenario(both_ways=False, alone=True)
def tcp_offloads(lab: Lab, left: Implementation, right: Implementation) -> None:
    """TCP with segmentation and checksum offloads on and off at either end, all four together.

    left: on  on  off off
    right: on off on  off       on both links of an end: the tunnel's interface and eth0

    Off means that the host makes every segment and checksum itself, and is given single packets.
    """
    a, b = tunnel(lab, left, right)
    a.ping(b)
    for on_left, on_right in itertools.product((True, False), repeat=2):
        for end, on in ((a, on_left), (b, on_right)):
            for device in (end.interface, "eth0"):
                _offloads(end, device, on)
        for inner in (4, 6):
            transfer(a, b, inner, forwards=True, backwards=True, length=1 << 20)


def _offloads(end: End, device: str, on: bool) -> None:
    """Off is off; what the device does not have cannot be switched on."""
    state = "on" if on else "off"
    words = " ".join(f"{feature} {state}" for feature in _OFFLOADS)
    end.namespace.run("ethtool", "-K", device, *words.split())
    shown = end.namespace.run("ethtool", "-k", device)
    expect(on or "tcp-segmentation-offload: on" not in shown, f"{device} keeps its offloads")


@scenario(both_ways=False, alone=True)
def every_mtu(lab: Lab, left: Implementation, right: Implementation) -> None:
    """Full packets that must not be fragmented, at 1280, 1420, 8920 and 65455 bytes of MTU.

    left ══ MTU changed while the tunnel stands ══ right
         ──────────── link of 65535 ────────────
    """
    a, b = tunnel(lab, left, right, mtu=65455)
    a.ping(b)
    for mtu in (65455, 8920, 1420, 1280):
        for end in (a, b):
            end.namespace.ip(f"link set {end.interface} mtu {mtu}")
        for inner, headers in ((4, 28), (6, 48)):
            for size in (mtu - headers, mtu - headers - 15, mtu - headers - 16):
                a.ping(b, inner, f"-M do -s {size}")
                b.ping(a, inner, f"-M do -s {size}")
        transfer(a, b, 4, forwards=True, backwards=True, length=1 << 20)


def transfer(
    a: End, b: End, version: int, *, forwards: bool, backwards: bool, length: int = _BYTES
) -> None:
    """One TCP connection from `a` to `b` that carries `length` bytes each chosen way.

    :raises ScenarioFailed: something else arrived than was sent, or not within 60 s.
    """
    data = random.Random(length).randbytes(length)
    with (
        b.namespace.socket(_FAMILY[version], socket.SOCK_STREAM) as listener,
        a.namespace.socket(_FAMILY[version], socket.SOCK_STREAM) as client,
    ):
        listener.bind((b.inner(version), 0))
        listener.listen()
        listener.settimeout(_PATIENCE)
        client.settimeout(_PATIENCE)
        client.connect(listener.getsockname()[:2])
        server, _ = listener.accept()
        with server:
            server.settimeout(_PATIENCE)
            wrong: list[str] = []
            ways = (("forwards", client, server), ("backwards", server, client))
            wanted = [way for way, on in zip(ways, (forwards, backwards), strict=True) if on]
            threads = [
                threading.Thread(target=_guard, args=(wrong, way, source, sink, data))
                for way, source, sink in wanted
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    expect(not wrong, f"TCP over v{version}: {'; '.join(wrong)}")


def _guard(
    wrong: list[str], way: str, source: socket.socket, sink: socket.socket, data: bytes
) -> None:
    """Send and receive at once; what goes wrong is noted, as this is a thread of its own."""
    sender = threading.Thread(target=lambda: wrong.extend(_send(way, source, data)))
    sender.start()
    got = bytearray()
    try:
        while len(got) < len(data) and (part := sink.recv(1 << 18)):
            got += part
    except OSError as error:
        wrong.append(f"{way}: {error} after {len(got)} of {len(data)} bytes")
    sender.join()
    if len(got) == len(data) and got != data:
        wrong.append(f"{way}: the bytes differ")
    elif len(got) < len(data) and not wrong:
        wrong.append(f"{way}: only {len(got)} of {len(data)} bytes")


def _send(way: str, source: socket.socket, data: bytes) -> Iterator[str]:
    try:
        source.sendall(data)
    except OSError as error:
        yield f"{way}: sending: {error}"
