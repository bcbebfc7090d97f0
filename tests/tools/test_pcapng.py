"""The format of captures, read by a parser of its own."""

from __future__ import annotations

import io
import struct

from wgpy.tools.packets import datagrams
from wgpy.tools.pcapng import Writer


def blocks(data: bytes) -> list[tuple[int, bytes]]:
    """Kind and body of each; every length is checked from both ends."""
    found = []
    while data:
        kind, length = struct.unpack_from("=II", data)
        assert length % 4 == 0 and struct.unpack_from("=I", data, length - 4) == (length,)
        found.append((kind, data[8 : length - 4]))
        data = data[length:]
    return found


def test_interfaces_are_told_once_and_before_their_packets() -> None:
    out = io.BytesIO()
    writer = Writer(out)
    writer.packet("wg0", 2**32 + 5, b"abcde")
    writer.packet("wg0", 7, b"")
    writer.packet("eth0", 7, b"x")
    assert [kind for kind, _ in blocks(out.getvalue())] == [0x0A0D0D0A, 1, 6, 6, 1, 6]
    (_, section), (_, interface), (_, first), _, _, (_, last) = blocks(out.getvalue())
    assert section[:4] == struct.pack("=I", 0x1A2B3C4D)
    assert interface[:2] == struct.pack("=H", 101) and b"\x02\x00\x03\x00wg0\0" in interface
    assert struct.unpack_from("=5I", first) == (0, 1, 5, 5, 5) and first[20:] == b"abcde\0\0\0"
    assert struct.unpack_from("=5I", last) == (1, 0, 7, 1, 1)


def test_keys_are_a_block_of_secrets() -> None:
    out = io.BytesIO()
    Writer(out).keys(b"LINE = x\n")
    assert blocks(out.getvalue())[1] == (
        10,
        struct.pack("=II", 0x57474B4C, 9) + b"LINE = x\n\0\0\0",
    )


def test_a_packet_of_many_messages_is_taken_apart() -> None:
    messages = [
        b"\x04\0\0\0INDX" + number.to_bytes(8, "little") + bytes([number]) * size
        for number, size in ((1, 64), (2, 64), (3, 32))
    ]
    body = b"".join(messages)
    udp = struct.pack("!HHHH", 51820, 51821, 8 + len(body), 0xBEEF)
    v4 = bytes.fromhex("45000000 00014000 4011ffff c0000201 c0000202")
    v6 = bytes.fromhex("60000000 0000 1140") + bytes(32)
    for header in (v4, v6):
        found = list(datagrams(header + udp + body))
        assert [one[len(header) + 8 :] for one in found] == messages
        for one, message in zip(found, messages, strict=True):
            at = len(header)
            length = len(message) + 8
            assert struct.unpack_from("!HHHH", one, at) == (51820, 51821, length, 0)
            (total,) = struct.unpack_from("!H", one, 2 if header is v4 else 4)
            assert total == (length + at if header is v4 else length)
    words = struct.unpack("!10H", next(datagrams(v4 + udp + body))[:20])
    assert sum(words) % 0xFFFF == 0


def test_what_is_one_message_stays_as_it_is() -> None:
    header = bytes.fromhex("45000000 00014000 4011ffff c0000201 c0000202") + bytes(8)
    for message in (b"\x01\0\0\0" + bytes(144), b"\x04\0\0\0INDX" + bytes(24), b"", b"\x04"):
        assert list(datagrams(header + message)) == [header + message]
    twice = header + b"\x04\0\0\0INDX" + bytes(24) + b"\x04\0\0\0INDX" + b"\x04\0\0\0OTHR" * 9
    assert list(datagrams(twice)) == [twice]
