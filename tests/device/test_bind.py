"""Sockets, sending and receiving on loopback; namespaces are in tests/system/test_bind.py."""

import errno
import os
import socket
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.device.datagrams import LOOPBACKS, binds, both_families, datagrams, drain
from wgpy.device import incoming
from wgpy.device.bind import Bind, SendResult
from wgpy.device.options import DeviceOptions
from wgpy.protocol.config import Endpoint
from wgpy.protocol.path import Path, Source

SENT = SendResult()


def test_both_families_listen_on_one_free_port() -> None:
    bind = Bind.open(0, 0, DeviceOptions())
    assert {s.family for s in bind.sockets} == {socket.AF_INET, socket.AF_INET6}
    assert {s.getsockname()[1] for s in bind.sockets} == {bind.port}
    assert bind.port > 0
    bind.close()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_port_taken_in_one_family_opens_nothing(family: socket.AddressFamily) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as taken:
        if family == socket.AF_INET6:
            taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        taken.bind(("", 0))
        port = taken.getsockname()[1]
        with pytest.raises(OSError) as raised:
            Bind.open(port, 0, DeviceOptions())
        assert raised.value.errno == errno.EADDRINUSE
    again = Bind.open(port, 0, DeviceOptions())
    assert again.port == port
    again.close()


@pytest.mark.parametrize("missing", [socket.AF_INET, socket.AF_INET6])
def test_a_host_without_one_family_has_the_other(
    missing: socket.AddressFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without(monkeypatch, missing)
    bind = Bind.open(0, 0, DeviceOptions())
    (sock,) = bind.sockets
    assert sock.family != missing
    host = "::1" if missing == socket.AF_INET6 else "127.0.0.1"
    result = bind.send([b"x"], 1, 1, Path(Endpoint(host, 9)), 0)
    assert result == SendResult(error=errno.EAFNOSUPPORT)
    bind.close()


def test_a_host_without_any_family_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    _without(monkeypatch, socket.AF_INET, socket.AF_INET6)
    with pytest.raises(OSError, match="neither IPv4 nor IPv6"):
        Bind.open(0, 0, DeviceOptions())


def _without(monkeypatch: pytest.MonkeyPatch, *families: int) -> None:
    real = socket.socket

    def make(family: int, kind: int) -> socket.socket:
        if family in families:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, kind)

    monkeypatch.setattr("wgpy.device.sockets.socket.socket", make)


ALL_OPTIONS = [
    DeviceOptions(udp_gso=gso, udp_gro=gro, recvmmsg=recvmmsg, sendmmsg=sendmmsg)
    for gso, gro, recvmmsg, sendmmsg in product((True, False), repeat=4)
]
# Datagrams longer than any can be.
TOO_LONG = 65528
FAILING = bytes(2 * TOO_LONG)


@st.composite
def batches(draw: st.DrawFn) -> tuple[int, list[bytes]]:
    """A segment size and datagrams of that size but the last, no more than a super-packet."""
    segment = draw(st.integers(1, 9000) | st.sampled_from((1452, 32767, 65487)))
    count = draw(st.integers(1, min(128, 65536 // segment)))
    last = draw(st.integers(1, segment))
    rows = [bytes((k % 251,)) * segment for k in range(count - 1)]
    return segment, [*rows, bytes((count,)) * last]


@both_families
@pytest.mark.parametrize("options", ALL_OPTIONS)
def test_every_combination_of_options_delivers_the_same_datagrams(
    host: str, options: DeviceOptions
) -> None:
    with binds(options, options) as (sender, receiver):
        path = Path(Endpoint(host, receiver.port))

        @settings(max_examples=15, deadline=None)
        @given(batches(), st.booleans())
        def check(batch: tuple[int, list[bytes]], contiguous: bool) -> None:
            segment, rows = batch
            whole = b"".join(rows)
            buffers: list[Any] = [memoryview(whole)] if contiguous else [*rows]
            assert sender.send(buffers, segment, len(whole), path, 0) == SENT
            # What fails takes nothing with it that was sent before or after it.
            for failing in (FAILING, FAILING[:TOO_LONG]):
                failed = sender.send([failing], TOO_LONG, len(failing), path, 0)
                assert failed == SendResult(error=errno.EMSGSIZE)
            assert sender.send([rows[-1]], len(rows[-1]), len(rows[-1]), path, 0) == SENT
            assert datagrams(receiver, host) == [*rows, rows[-1]]

        check()


@both_families
@pytest.mark.parametrize("options", ALL_OPTIONS)
def test_a_batch_is_one_receive_where_the_options_allow_it(
    host: str, options: DeviceOptions
) -> None:
    with binds(options, options) as (sender, receiver):
        sender.send([bytes(1452 * 9 + 32)], 1452, 1452 * 9 + 32, _to(host, receiver), 0)
        batches = [(received.size, len(rows)) for received, rows in drain(receiver, host)]
        # Loopback joins nothing: UDP_GRO returns what was sent with UDP_SEGMENT.
        if options.udp_gso if options.udp_gro else options.recvmmsg:
            assert batches == [(1452 * 9 + 32, 10)]
        else:
            assert batches == [(1452, 1)] * 9 + [(32, 1)]


class _Counting(socket.socket):
    """A socket that counts its calls of sendmsg."""

    calls = 0

    def sendmsg(self, buffers: Any, ancdata: Any = (), flags: int = 0, address: Any = None) -> int:
        self.calls += 1
        return super().sendmsg(buffers, ancdata, flags, address)


@pytest.mark.parametrize("options", ALL_OPTIONS)
def test_a_batch_is_one_send_where_the_options_allow_it(options: DeviceOptions) -> None:
    with binds() as (_, receiver):
        sock = _Counting(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("", 0))
        sender = Bind([sock], options)
        assert sender.send([bytes(5000)], 500, 5000, _to("127.0.0.1", receiver), 0) == SENT
        assert datagrams(receiver, "127.0.0.1") == [bytes(500)] * 10
        assert sock.calls == (1 if options.udp_gso else 0 if options.sendmmsg else 10)
        sender.close()


@both_families
def test_more_than_one_send_can_carry_is_split(host: str) -> None:
    rows = [bytes((k,)) * 1452 for k in range(64)]
    many = [bytes((k,)) * 100 for k in range(128)]
    with binds() as (sender, receiver):
        for batch in (rows, many):
            size = sum(map(len, batch))
            assert sender.send([*batch], len(batch[0]), size, _to(host, receiver), 0) == SENT
            assert datagrams(receiver, host) == batch


@both_families
@pytest.mark.parametrize("udp_gro", [True, False])
def test_ecn_is_told_for_each_batch(host: str, udp_gro: bool) -> None:
    with binds(receiver=DeviceOptions(udp_gro=udp_gro)) as (sender, receiver):
        for tos in (0, 1, 2, 3, 0x88, 0x8B, 0):
            assert sender.send([bytes(200)], 100, 200, _to(host, receiver), tos) == SENT
        told = [received.ecn for received, rows in drain(receiver, host) for _ in rows]
        assert told == [ecn for ecn in (0, 1, 2, 3, 0, 3, 0) for _ in range(2)]


@pytest.mark.parametrize("udp_gro", [True, False])
def test_a_received_path_names_both_ends(udp_gro: bool) -> None:
    lo = socket.if_nametoindex("lo")
    with binds(receiver=DeviceOptions(udp_gro=udp_gro)) as (sender, receiver):
        for host, spoken_to in (
            ("127.0.0.1", "127.0.0.1"),
            ("127.0.0.9", "127.0.0.9"),
            ("::1",) * 2,
        ):
            sender.send([b"x"], 1, 1, Path(Endpoint(host, receiver.port)), 0)
            ((received, _),) = drain(receiver, host)
            answers_to = "::1" if ":" in host else "127.0.0.1"
            assert received.path.endpoint == Endpoint(answers_to, sender.port)
            assert received.path.source == Source(spoken_to, lo)


@both_families
@pytest.mark.parametrize("udp_gro", [True, False])
def test_one_sender_has_one_path_object(host: str, udp_gro: bool) -> None:
    with binds(receiver=DeviceOptions(udp_gro=udp_gro)) as (sender, receiver):
        paths = []
        for _ in range(2):
            sender.send([b"x"], 1, 1, _to(host, receiver), 0)
            paths += [received.path for received, _ in drain(receiver, host)]
        assert paths[0] is paths[1]


def test_invented_senders_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "_MAX_SENDERS", 3)
    with binds() as (_, receiver):
        for _ in range(8):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(b"x", ("127.0.0.1", receiver.port))
        assert len(drain(receiver, "127.0.0.1")) == 8
        kept = [len(each._paths) for each in receiver._incoming.values()]
        assert max(kept) <= 3


@pytest.mark.parametrize("udp_gro", [True, False])
def test_datagrams_of_several_senders_and_sizes_keep_their_order(udp_gro: bool) -> None:
    with (
        binds(receiver=DeviceOptions(udp_gro=udp_gro)) as (one, receiver),
        binds() as (two, _),
    ):
        sent = []
        for k, size in enumerate((100, 100, 40, 40, 100, 1, 1, 1400, 1399, 1400)):
            sender = (one, two)[k // 3 % 2]
            sender.send([bytes((k,)) * size], size, size, _to("127.0.0.1", receiver), 0)
            sent.append((sender.port, bytes((k,)) * size))
        got = [
            (received.path.endpoint.port, row)
            for received, rows in drain(receiver, "127.0.0.1")
            for row in rows
        ]
        assert got == sent


@pytest.mark.parametrize("udp_gro", [True, False])
def test_empty_datagrams_are_received_as_such(udp_gro: bool) -> None:
    with binds(receiver=DeviceOptions(udp_gro=udp_gro)) as (sender, receiver):
        for row in (b"abc", b"", b"", b"abc"):
            assert sender.send([row], len(row), len(row), _to("127.0.0.1", receiver), 0) == SENT
        assert datagrams(receiver, "127.0.0.1") == [b"abc", b"", b"", b"abc"]


@both_families
def test_answers_leave_from_the_address_that_was_spoken_to(host: str) -> None:
    with binds() as (client, server):
        spoken_to = "127.0.0.77" if host == "127.0.0.1" else host
        client.send([b"hello"], 5, 5, Path(Endpoint(spoken_to, server.port)), 0)
        ((request, _),) = drain(server, host)
        assert server.send([b"yes"], 3, 3, request.path, 0) == SENT
        ((answer, rows),) = drain(client, host)
        assert rows == [b"yes"]
        assert answer.path.endpoint == Endpoint(spoken_to, server.port)


@both_families
@pytest.mark.parametrize("udp_gso", [True, False])
def test_a_source_that_is_not_ours_is_left_out_and_told(host: str, udp_gso: bool) -> None:
    foreign = Source("192.0.2.99" if host == "127.0.0.1" else "2001:db8::99", 1)
    with binds(DeviceOptions(udp_gso=udp_gso)) as (sender, receiver):
        path = Path(Endpoint(host, receiver.port), foreign)
        for size in (100, 1000):
            assert sender.send([bytes(size)], 100, size, path, 0) == SendResult(source_lost=True)
            assert b"".join(datagrams(receiver, host)) == bytes(size)


@pytest.mark.parametrize("udp_gso", [True, False])
def test_a_failed_send_is_told_by_its_errno(udp_gso: bool) -> None:
    with binds(DeviceOptions(udp_gso=udp_gso)) as (sender, _):
        broadcast = Path(Endpoint("255.255.255.255", 9))
        assert sender.send([bytes(10)], 10, 10, broadcast, 0).error == errno.EACCES
        assert sender.send([bytes(30)], 10, 30, broadcast, 0).error == errno.EACCES
        own = Path(Endpoint("127.0.0.1", 9))
        assert sender.send([bytes(65508)], 65508, 65508, own, 0).error == errno.EMSGSIZE
        assert sender.send([bytes(10)], 10, 10, own, 0) == SENT


@both_families
def test_nobody_listening_is_no_error(host: str) -> None:
    with binds() as (sender, receiver):
        path = _to(host, receiver)
        receiver.sockets.remove(closed := receiver.socket_for(path))
        closed.close()
        for _ in range(3):
            assert sender.send([b"x"], 1, 1, path, 0) == SENT
            assert drain(sender, host) == []


def test_an_error_waiting_on_a_socket_is_counted_and_not_raised() -> None:
    with binds() as (_, receiver):
        sock = receiver.socket_for(Path(Endpoint("127.0.0.1", 1)))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
            gone.bind(("127.0.0.1", 0))
            sock.connect(gone.getsockname())
        sock.send(b"to a closed port")
        assert drain(receiver, "127.0.0.1") == []
        assert receiver.receive_errors == 1


SO_NO_CHECK = 11


def test_where_segmentation_is_refused_datagrams_are_sent_one_by_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with binds() as (sender, receiver):
        # The kernel does not segment what has no checksum (EINVAL).
        sock = sender.socket_for(Path(Endpoint("127.0.0.1", 1)))
        sock.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
        rows = [bytes((k,)) * 1000 for k in range(10)]
        for _ in range(3):
            assert sender.send([*rows], 1000, 10_000, _to("127.0.0.1", receiver), 0) == SENT
            assert datagrams(receiver, "127.0.0.1") == rows
    (record,) = caplog.records
    assert record.name == "wgpy.device"
    assert "UDP_SEGMENT fails with EINVAL" in record.message


class _Refusing(socket.socket):
    """A socket that fails for UDP_SEGMENT, as older kernels do where a NIC has no checksums."""

    refused = 0
    error = errno.EIO

    def sendmsg(self, buffers: Any, ancdata: Any = (), flags: int = 0, address: Any = None) -> int:
        if any(kind == 103 for _, kind, _ in ancdata):
            self.refused += 1
            raise OSError(self.error, os.strerror(self.error))
        return super().sendmsg(buffers, ancdata, flags, address)


def test_a_route_without_checksum_offload_is_tried_once(caplog: pytest.LogCaptureFixture) -> None:
    with binds() as (_, receiver):
        nic = _Refusing(socket.AF_INET, socket.SOCK_DGRAM)
        nic.bind(("", 0))
        sender = Bind([nic], DeviceOptions())
        path = _to("127.0.0.1", receiver)
        for size in (5000, 500, 50):
            assert sender.send([bytes(size)], size // 5, size, path, 0) == SENT
            assert datagrams(receiver, "127.0.0.1") == [bytes(size // 5)] * 5
        assert nic.refused == 1
        sender.close()
    assert len(caplog.records) == 1


def test_a_full_socket_is_no_reason_to_send_one_by_one() -> None:
    with binds() as (_, receiver):
        full = _Refusing(socket.AF_INET, socket.SOCK_DGRAM)
        full.error = errno.EAGAIN
        full.bind(("", 0))
        sender = Bind([full], DeviceOptions())
        path = _to("127.0.0.1", receiver)
        assert sender.send([bytes(50)], 10, 50, path, 0) == SendResult(would_block=True)
        assert datagrams(receiver, "127.0.0.1") == []
        sender.close()


def test_without_sendmmsg_and_recvmmsg_datagrams_move_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("wgpy.device.mmsg.can_send", lambda: False)
    monkeypatch.setattr("wgpy.device.mmsg.can_receive", lambda: False)
    plain = DeviceOptions(udp_gso=False, udp_gro=False)
    rows = [bytes((k,)) * 500 for k in range(5)]
    for host in LOOPBACKS:
        with binds(plain, plain) as (sender, receiver):
            assert sender.send([*rows], 500, 2500, _to(host, receiver), 2) == SENT
            batches = drain(receiver, host)
            assert [row for _, [row] in batches] == rows
            assert {received.ecn for received, _ in batches} == {2}


def test_nothing_there_is_none() -> None:
    with binds() as (_, receiver):
        for sock in receiver.sockets:
            assert receiver.receive(sock, memoryview(bytearray(65536))) is None
        assert receiver.receive_errors == 0


def _to(host: str, receiver: Bind) -> Path:
    return Path(Endpoint(host, receiver.port))
