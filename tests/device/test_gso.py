import socket

import pytest

from wgpy.device import gso


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_this_kernel_has_both_offloads(family: socket.AddressFamily) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        assert gso.can_segment(sock)
        assert gso.join_received(sock)
        assert sock.getsockopt(socket.IPPROTO_UDP, gso.UDP_GRO) == 1


def test_a_kernel_without_the_options_is_noticed() -> None:
    # A TCP socket knows them as little as an old kernel does.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        assert not gso.can_segment(sock)
        assert not gso.join_received(sock)


def test_the_segment_message_cuts_a_send() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
    ):
        receiver.bind(("127.0.0.1", 0))
        sender.sendmsg([bytes(25)], [gso.segment_message(10)], 0, receiver.getsockname())
        assert [len(receiver.recv(100)) for _ in range(3)] == [10, 10, 5]
