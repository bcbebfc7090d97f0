import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.device import ancillary
from wgpy.protocol.config import Endpoint
from wgpy.protocol.path import Path, Source

messages = st.lists(
    st.tuples(st.integers(0, 300), st.integers(0, 300), st.binary(max_size=40)), max_size=6
)


@given(messages)
def test_control_messages_survive_their_raw_form(control: list[tuple[int, int, bytes]]) -> None:
    assert list(ancillary.unpack_control(ancillary.pack_control(control))) == control


@given(st.ip_addresses(), st.integers(0, 65535), st.integers(0, 2**31))
def test_addresses_survive_their_raw_form(host: object, port: int, scope: int) -> None:
    is_v6 = ":" in str(host)
    family = socket.AF_INET6 if is_v6 else socket.AF_INET
    text = socket.inet_ntop(family, socket.inet_pton(family, str(host)))
    endpoint = Endpoint(text, port, scope if is_v6 else 0)
    address = ancillary.address_of(endpoint)
    raw = ancillary.pack_address(address)
    assert len(raw) == (28 if is_v6 else 16)
    assert ancillary.unpack_address(raw + b"more") == address
    assert ancillary.path_of(address, b"") == Path(endpoint)


def test_only_a_link_local_source_is_tied_to_its_interface() -> None:
    for address, interface in (("2001:db8::1", 0), ("fe80::1", 7), ("febf::1", 7), ("fec0::1", 0)):
        level, kind, data = ancillary.source_message(Source(address, 7))
        assert (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO)
        assert data[:16] == socket.inet_pton(socket.AF_INET6, address)
        assert int.from_bytes(data[16:], "little") == interface
    _, _, data = ancillary.source_message(Source("192.0.2.1", 7))
    assert data == bytes(4) + bytes((192, 0, 2, 1)) + bytes(4)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_what_is_asked_for_is_read(family: socket.AddressFamily) -> None:
    host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    with (
        socket.socket(family, socket.SOCK_DGRAM) as sender,
        socket.socket(family, socket.SOCK_DGRAM) as receiver,
    ):
        ancillary.request(receiver)
        receiver.bind((host, 0))
        tos = ancillary.tos_message(0xB9, family == socket.AF_INET6)
        sender.sendmsg([b"x"], [tos], 0, receiver.getsockname())
        _, control, _, address = receiver.recvmsg(10, 256)
        pktinfo, ecn, segment = ancillary.read(control)
        assert (ecn, segment) == (1, 0)
        path = ancillary.path_of(address, pktinfo)
        assert path.source == Source(host, socket.if_nametoindex("lo"))
