"""Messages of netlink, and what this kernel tells anybody."""

from socket import AF_INET
from struct import pack
from unittest.mock import Mock

import pytest
from pyroute2.netlink.exceptions import NetlinkError

from agent.network.netlink import Connection, attributes, messages, packed

_ERROR, _DONE, _GETLINK, _GETROUTE = 2, 3, 18, 26
_DUMP_INTR = 0x10
_IFLA_IFNAME = 3
_RTA_DST = 1
_IFINFOMSG = 16


def test_messages_and_attributes_are_aligned_to_four_bytes() -> None:
    body = pack("=HH5sxxx", 9, 0x8003, b"hello") + pack("=HHI", 8, 4, 7)
    data = pack("=IHHII", 16 + 5, 26, 0, 1, 0) + b"12345xxx"
    data += pack("=IHHII", 16 + len(body), 24, 16, 2, 0) + body
    assert list(messages(data)) == [(26, 0, 1, b"12345"), (24, 16, 2, body)]
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


def _message(sequence: int, told: int, kind: int = _GETROUTE, flags: int = 0) -> bytes:
    return pack("=IHHIII", 20, kind, flags, sequence, 0, told)


def test_a_dump_that_others_disturb_is_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Mock()
    disturbed = _message(1, 11) + _message(1, 12, flags=_DUMP_INTR)
    # What is left of it comes after the next question.
    rest = _message(1, 13, flags=_DUMP_INTR) + _message(1, 0, _DONE, _DUMP_INTR)
    kernel.recv.side_effect = [disturbed, rest, _message(2, 22), _message(2, 0, _DONE)]
    monkeypatch.setattr("socket.socket", lambda *_: kernel)
    with Connection() as connection:
        assert connection.dump(_GETROUTE, b"") == [pack("=I", 22)]


def test_a_dump_that_is_disturbed_all_the_time_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Mock()
    kernel.recv.side_effect = [_message(n, 11, flags=_DUMP_INTR) for n in range(1, 100)]
    monkeypatch.setattr("socket.socket", lambda *_: kernel)
    with Connection() as connection, pytest.raises(InterruptedError, match="disturbed 10 times"):
        connection.dump(_GETROUTE, b"")


def test_an_answer_that_comes_too_late_answers_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel = Mock()
    late = _message(1, 11) + _message(1, 0, _ERROR)
    kernel.recv.side_effect = [TimeoutError(), late, _message(2, 22) + _message(2, 0, _ERROR)]
    monkeypatch.setattr("socket.socket", lambda *_: kernel)
    with Connection() as connection:
        with pytest.raises(TimeoutError):
            connection.ask(_GETROUTE, b"")
        assert connection.ask(_GETROUTE, b"") == [pack("=I", 22)]
