"""Messages of netlink, and what this kernel tells anybody."""

from socket import AF_INET
from struct import pack
from unittest.mock import Mock

import pytest
from pyroute2.netlink.exceptions import NetlinkError

from agent.network.netlink import Connection, attributes, messages, packed

_ERROR, _GETLINK, _GETROUTE = 2, 18, 26
_IFLA_IFNAME = 3
_RTA_DST = 1
_IFINFOMSG = 16


def test_messages_and_attributes_are_aligned_to_four_bytes() -> None:
    body = pack("=HH5sxxx", 9, 0x8003, b"hello") + pack("=HHI", 8, 4, 7)
    data = pack("=IHHII", 16 + 5, 26, 0, 1, 0) + b"12345xxx"
    data += pack("=IHHII", 16 + len(body), 24, 0, 2, 0) + body
    assert list(messages(data)) == [(26, 1, b"12345"), (24, 2, body)]
    assert attributes(body, 0) == {3: b"hello", 4: pack("=I", 7)}
    assert attributes(packed({3: b"hello", 4: b""}), 0) == {3: b"hello", 4: b""}


@pytest.mark.parametrize("data", [b"", bytes(15), bytes(64), pack("=IHHII", 15, 26, 0, 0, 0)])
def test_what_is_no_message_ends_them(data: bytes) -> None:
    assert list(messages(data)) == []


def test_a_dump_has_all_of_it() -> None:
    with Connection() as kernel:
        links = kernel.dump(_GETLINK, bytes(_IFINFOMSG))
    assert b"lo\0" in [attributes(told, _IFINFOMSG)[_IFLA_IFNAME] for told in links]


def test_what_the_kernel_refuses_is_told_and_does_not_spoil_what_is_asked_next() -> None:
    of_a_length = bytes([AF_INET, 24, *bytes(10)])
    to_localhost = bytes([AF_INET, 32, *bytes(10)]) + packed({_RTA_DST: bytes([127, 0, 0, 1])})
    with Connection() as kernel:
        for ask in kernel.dump, kernel.ask:
            with pytest.raises(NetlinkError, match="Invalid argument"):
                ask(_GETROUTE, of_a_length)
        assert len(kernel.ask(_GETROUTE, to_localhost)) == 1


def test_an_answer_that_comes_too_late_answers_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def message(sequence: int, told: int, kind: int = _GETROUTE) -> bytes:
        return pack("=IHHIII", 20, kind, 0, sequence, 0, told)

    kernel = Mock()
    late = message(1, 11) + message(1, 0, _ERROR)
    kernel.recv.side_effect = [TimeoutError(), late, message(2, 22) + message(2, 0, _ERROR)]
    monkeypatch.setattr("socket.socket", lambda *_: kernel)
    with Connection() as connection:
        with pytest.raises(TimeoutError):
            connection.ask(_GETROUTE, b"")
        assert connection.ask(_GETROUTE, b"") == [pack("=I", 22)]
