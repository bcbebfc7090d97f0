"""Messages of netlink, and what this kernel tells anybody."""

from socket import AF_INET
from struct import pack

import pytest

from agent.network.netlink import attributes, dump, messages

_GETLINK, _GETROUTE = 18, 26
_IFLA_IFNAME = 3
_IFINFOMSG = 16


def test_messages_and_attributes_are_aligned_to_four_bytes() -> None:
    body = pack("=HH5sxxx", 9, 0x8003, b"hello") + pack("=HHI", 8, 4, 7)
    data = pack("=IHHII", 16 + 5, 26, 0, 0, 0) + b"12345xxx"
    data += pack("=IHHII", 16 + len(body), 24, 0, 0, 0) + body
    assert list(messages(data)) == [(26, b"12345"), (24, body)]
    assert attributes(body, 0) == {3: b"hello", 4: pack("=I", 7)}


@pytest.mark.parametrize("data", [b"", bytes(15), bytes(64), pack("=IHHII", 15, 26, 0, 0, 0)])
def test_what_is_no_message_ends_them(data: bytes) -> None:
    assert list(messages(data)) == []


def test_a_dump_has_all_of_it() -> None:
    links = dump(_GETLINK, bytes(_IFINFOMSG))
    assert b"lo\0" in [attributes(told, _IFINFOMSG)[_IFLA_IFNAME] for told in links]


def test_a_dump_that_the_kernel_refuses_is_an_error() -> None:
    of_another_length = bytes([AF_INET, 24, *bytes(10)])
    with pytest.raises(OSError, match="Invalid argument"):
        list(dump(_GETROUTE, of_another_length))
