"""The netlink socket with a fake kernel at the other end of a pair."""

import os
import socket
import struct
from collections.abc import Iterator
from errno import EINVAL

import pytest

from wgpy.dataplane.kernelwire import decode_dump, encode_change
from wgpy.dataplane.netlink import NLM_F_DUMP, GenericNetlink, Netlink, attribute
from wgpy.protocol.config import InterfaceChange, PeerChange

_HEADER = struct.Struct("=IHHII")
FAMILY_ID = 0x21


class FakeKernel:
    """Answers that are queued beforehand wait in the socket, as the kernel's do."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def say(self, *messages: tuple[int, int, int, bytes]) -> None:
        """Messages of (type, flags, sequence number, payload), all in one datagram."""
        self._end.send(
            b"".join(
                _HEADER.pack(_HEADER.size + len(payload), kind, flags, sequence, 0)
                + payload
                + bytes(-len(payload) % 4)
                for kind, flags, sequence, payload in messages
            )
        )

    def heard(self) -> tuple[int, int, int, bytes]:
        data = self._end.recv(1 << 18)
        _, kind, flags, sequence, _ = _HEADER.unpack_from(data)
        return kind, flags, sequence, data[_HEADER.size :]


def error(sequence: int, number: int) -> tuple[int, int, int, bytes]:
    return 2, 0, sequence, struct.pack("=i", -number)


def done(sequence: int) -> tuple[int, int, int, bytes]:
    return 3, 2, sequence, struct.pack("=i", 0)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKernel]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    class End:
        """The part of a socket that netlink.py uses, which a pair has not: bind."""

        send, recv, close, settimeout = ours.send, ours.recv, ours.close, ours.settimeout

        def bind(self, address: tuple[int, int]) -> None: ...

    monkeypatch.setattr("wgpy.dataplane.netlink.socket.socket", lambda *arguments: End())
    yield FakeKernel(theirs)
    theirs.close()


def test_an_acknowledgement_ends_a_request(kernel: FakeKernel) -> None:
    kernel.say(error(1, 0))
    with Netlink(0) as ours:
        assert ours.request(16, 0x400, b"abcd") == []
    assert kernel.heard() == (16, 0x400 | 1 | 4, 1, b"abcd")


def test_an_error_is_raised_with_its_number(kernel: FakeKernel) -> None:
    kernel.say(error(1, EINVAL))
    with Netlink(0) as ours, pytest.raises(OSError) as caught:
        ours.request(16, 0, b"")
    assert caught.value.errno == EINVAL
    assert caught.value.strerror == os.strerror(EINVAL)


def test_a_dump_is_all_its_parts_in_any_number_of_datagrams(kernel: FakeKernel) -> None:
    kernel.say((16, 2, 1, b"one"), (16, 2, 1, b"two"))
    kernel.say((16, 2, 1, b"three"), done(1))
    with Netlink(0) as ours:
        assert ours.request(18, NLM_F_DUMP, b"") == [b"one", b"two", b"three"]


def test_a_disturbed_dump_is_told_and_what_is_left_of_it_passed_over(kernel: FakeKernel) -> None:
    kernel.say((16, 2 | 0x10, 1, b"old"))
    kernel.say((16, 2, 1, b"old too"), done(1))
    kernel.say((16, 2, 2, b"new"), done(2))
    with Netlink(0) as ours:
        with pytest.raises(InterruptedError):
            ours.request(18, NLM_F_DUMP, b"")
        assert ours.request(18, NLM_F_DUMP, b"") == [b"new"]


def test_a_family_is_resolved_and_its_commands_sent_to_it(kernel: FakeKernel) -> None:
    family = struct.pack("=BBH", 1, 2, 0) + attribute(1, struct.pack("=H", FAMILY_ID))
    (message,) = encode_change("wg0", InterfaceChange(peers=(PeerChange(b"k" * 32),)))
    kernel.say((16, 0, 1, family), error(1, 0))
    kernel.say((FAMILY_ID, 2, 2, bytes(4) + message), done(2))
    with GenericNetlink("wireguard", 1) as ours:
        answers = ours.command(0, b"", dump=True)
    assert [peer.public_key for peer in decode_dump(answers).peers] == [b"k" * 32]
    assert kernel.heard()[3] == b"\x03\x01\0\0" + attribute(2, b"wireguard\0")
    assert kernel.heard()[0] == FAMILY_ID
