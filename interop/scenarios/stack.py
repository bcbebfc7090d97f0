"""Against implementations that have a TCP/IP stack of their own instead of an interface."""

from __future__ import annotations

import random
import socket
import threading
import time

from interop.counterparts.base import Implementation, Stack
from interop.keys import KeyPair, new_key_pair
from interop.netns import Lab, add_address
from interop.scenarios.registry import stack_scenario
from interop.shell import expect
from interop.tunnel import PORT, End
from interop.wire import INITIATION, RESPONSE, capture

_TARGET = ("10.90.0.2", 7)


@stack_scenario()
def echo_from_a_stack(lab: Lab, left: Implementation, right: Stack) -> None:
    """One TCP connection brings back 4 MiB as they were sent.

    left: interface ══ TCP ══ right: stack that echoes
    """
    a = _against_a_stack(lab, left, right)
    data = random.Random(4).randbytes(4 << 20)
    with a.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        client.settimeout(30)
        client.connect(_TARGET)
        sender = threading.Thread(target=client.sendall, args=(data,))
        sender.start()
        got = bytearray()
        while len(got) < len(data) and (part := client.recv(1 << 16)):
            got += part
        sender.join()
    expect(got == data, f"{len(got)} bytes came back, and not the {len(data)} that were sent")


@stack_scenario(slow=True)
def rekey_with_a_stack(lab: Lab, left: Implementation, right: Stack) -> None:
    """A byte a quarter of a second for 130 s on one connection: one rekey, by left, none lost.

    left ── initiation at 0 and at 120 s ──> right
    """
    a = _against_a_stack(lab, left, right)
    with (
        a.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as client,
        capture(a.namespace, lab.directory) as wire,
    ):
        client.settimeout(5)
        client.connect(_TARGET)
        until = time.monotonic() + 130
        while time.monotonic() < until:
            client.sendall(b"x")
            expect(client.recv(1) == b"x", "the connection ended")
            time.sleep(0.25)
    first, second = (message.at for message in wire.messages(INITIATION))
    expect(117 < second - first < 123, f"rekeyed after {second - first:.1f} s instead of 120")
    expect(len(wire.messages(RESPONSE)) == 2, "a handshake was not answered once")


def _against_a_stack(lab: Lab, left: Implementation, right: Stack) -> End:
    """An interface on the left, a stack on the right that knows it."""
    a = End(lab, lab.namespace("left"), left, lab.interface_name("l"), 1, 1420)
    b = lab.namespace("right")
    lab.link(a.namespace, b)
    add_address(a.namespace, "eth0", "10.80.0.1/24")
    add_address(b, "eth0", "10.80.0.2/24")
    a.record()
    a.start()
    keys: KeyPair = new_key_pair()
    log = lab.directory / "stack.log"
    right.serve_echo(b, "10.80.0.2", PORT, keys, a.keys.public, log)
    a.configure(f"peer {keys.public} allowed-ips 10.90.0.2/32 endpoint 10.80.0.2:{PORT}")
    return a
