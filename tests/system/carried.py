"""What a tunnel carries, and whether it arrives unchanged."""

from __future__ import annotations

import os
import socket

from interop.tunnel import End

_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_UDP_SEGMENT = 103
# Up to what fits the MTU of 1420 over IPv6, then what does not: the host makes fragments.
_SIZES = (0, 1, 64, 512, 1371, 1372)
_LARGE_SIZES = (1393, 4000, 60_000)
_BURST = 20


def bulk(sender: End, receiver: End, megabytes: int, version: int = 4) -> None:
    """One TCP stream, every byte compared."""
    family = _FAMILIES[version]
    block = os.urandom(1 << 20)
    with receiver.namespace.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind((receiver.inner(version), 7000))
        listener.listen()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with sender.namespace.socket(family, socket.SOCK_STREAM) as stream:
                    stream.settimeout(30)
                    stream.connect((receiver.inner(version), 7000))
                    for _ in range(megabytes):
                        stream.sendall(block)
                status = 0
            finally:
                os._exit(status)
        listener.settimeout(30)
        stream, _ = listener.accept()
        stream.settimeout(30)
        with stream:
            for _ in range(megabytes):
                received = bytearray()
                while len(received) < len(block):
                    data = stream.recv(len(block) - len(received))
                    assert data, "the stream ended early"
                    received += data
                assert received == block
        assert os.waitpid(child, 0)[1] == 0


def datagrams(sender: End, receiver: End, version: int = 4) -> None:
    """Of many sizes: lone ones, several in a row and what the host cuts, each compared."""
    family = _FAMILIES[version]
    with (
        receiver.namespace.socket(family, socket.SOCK_DGRAM) as inbox,
        sender.namespace.socket(family, socket.SOCK_DGRAM) as outbox,
    ):
        inbox.bind((receiver.inner(version), 0))
        inbox.settimeout(10)
        outbox.connect(inbox.getsockname())
        for size in _SIZES + _LARGE_SIZES:
            _pass(outbox, inbox, [os.urandom(size)])
        for size in _SIZES:
            _pass(outbox, inbox, [os.urandom(size) for _ in range(_BURST)])
        for size in _SIZES[1:]:
            rows = [os.urandom(size) for _ in range(_BURST)] + [os.urandom(-(-size // 2))]
            outbox.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, size)
            outbox.send(b"".join(rows))
            assert _received(inbox, len(rows)) == rows


def _pass(outbox: socket.socket, inbox: socket.socket, rows: list[bytes]) -> None:
    for row in rows:
        outbox.send(row)
    assert _received(inbox, len(rows)) == rows


def _received(inbox: socket.socket, count: int) -> list[bytes]:
    return [inbox.recv(65536) for _ in range(count)]
