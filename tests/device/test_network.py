"""What sockets return becomes batches: nothing is lost, doubled or mixed on the way."""

import asyncio
import socket
from collections.abc import Sequence
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st

from wgpy.device.bind import Bind, Received, SendResult
from wgpy.device.network import Network
from wgpy.protocol.batch import MAX_BATCH, DatagramBatch
from wgpy.protocol.config import Endpoint
from wgpy.protocol.drops import DropReason
from wgpy.protocol.interface import Interface
from wgpy.protocol.path import Path
from wgpy.protocol.shared import Transmit

_PATHS = [Path(Endpoint("192.0.2.1", 51820)), Path(Endpoint("192.0.2.2", 51820))]

# What one receive returns: its datagrams, all of the first one's size but the last.
Run = tuple[list[bytes], Path, int]


class _Socket:
    """A socket with `runs` in it, as Bind reads them."""

    def __init__(self, runs: Sequence[Run] = (), results: Sequence[SendResult] = ()) -> None:
        self.sockets: list[socket.socket] = []
        self.runs = list(runs)
        self.results = list(results)

    def receive(self, sock: object, view: memoryview) -> Received | None:
        if not self.runs:
            return None
        datagrams, path, ecn = self.runs.pop(0)
        joined = b"".join(datagrams)
        view[: len(joined)] = joined
        return Received(len(joined), len(datagrams[0]), path, ecn)

    def send(self, *transmit: object) -> SendResult:
        return self.results.pop(0)

    def may_hold(self, sock: object) -> bool:
        return False

    def close(self) -> None: ...


class _Core:
    """Keeps what it was given."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, Path, int]] = []
        self.counts: list[int] = []
        # How many had come by the end of each turn.
        self.turns: list[int] = []
        # How many bytes each failed send had left.
        self.failed: list[int] = []

    def send_failed(self, transmit: Transmit) -> None:
        self.failed.append(transmit.size)

    def receive_datagrams(self, batch: DatagramBatch, now: float) -> None:
        self.counts.append(batch.count)
        for k in range(batch.count):
            size = batch.last_size if k == batch.count - 1 else batch.layout.size
            self.received.append((bytes(batch.layout.row(k)[:size]), batch.path, batch.ecn))

    def drop(self, reason: DropReason, packets: int = 1) -> None:
        raise AssertionError(f"{packets} dropped: {reason}")


def _receive_all(runs: list[Run]) -> _Core:
    async def receive() -> _Core:
        core, sock = _Core(), _Socket(runs)
        bind = cast(Bind, sock)
        network = _network(core, bind)
        with socket.socket() as any_socket:
            while sock.runs:
                network._readable(bind, any_socket)
                core.turns.append(len(core.received))
        network.close_sockets()
        return core

    return asyncio.run(receive())


def _network(core: _Core, bind: Bind) -> Network:
    network = Network(
        asyncio.get_running_loop(),
        cast(Interface, core),
        flush=lambda: None,
        settle=lambda: None,
        pause=lambda pause: None,
    )
    network.adopt(bind)
    return network


def _run(count: int, size: int, last: int, path: int = 0, ecn: int = 0, seed: int = 0) -> Run:
    sizes = [size] * (count - 1) + [min(last, size)]
    return [bytes([seed + k & 255]) * n for k, n in enumerate(sizes)], _PATHS[path], ecn


_RUNS = st.lists(
    st.builds(
        _run,
        count=st.sampled_from([1, 2, 45, 64, 128]),
        size=st.sampled_from([32, 96, 500]),
        last=st.sampled_from([20, 500]),
        path=st.integers(0, 1),
        ecn=st.sampled_from([0, 0, 3]),
        seed=st.integers(0, 255),
    ),
    max_size=12,
)


@settings(max_examples=100, deadline=None)
@given(_RUNS)
def test_every_datagram_arrives_once_in_order_with_its_sender_and_marks(runs: list[Run]) -> None:
    core = _receive_all(runs)
    assert core.received == [(d, path, ecn) for datagrams, path, ecn in runs for d in datagrams]
    assert max(core.counts, default=0) <= MAX_BATCH


def test_runs_that_continue_each_other_are_one_batch() -> None:
    assert _receive_all([_run(45, 500, 500, seed=k) for k in range(2)]).counts == [90]
    # The last one ends what it continues.
    assert _receive_all([_run(20, 500, 500), _run(3, 500, 7), _run(2, 500, 500)]).counts == [23, 2]


def test_runs_of_another_sender_size_or_mark_are_batches_of_their_own() -> None:
    for other in (_run(9, 500, 500, path=1), _run(9, 400, 400), _run(9, 500, 500, ecn=3)):
        assert _receive_all([_run(9, 500, 500), other]).counts == [9, 9]


def test_a_turn_is_bounded_in_receives_and_in_bytes() -> None:
    # Acknowledgements of many peers, one by one: all of them must not wait for a few.
    lone = [_run(1, 96, 96, path=k % 2, seed=k) for k in range(300)]
    first, *_ = _receive_all(lone).turns
    assert 64 <= first <= 128
    bulk = [_run(45, 1452, 1452, path=k % 2) for k in range(40)]
    first, *_ = _receive_all(bulk).turns
    assert 2 * 45 <= first <= 8 * 45


def test_only_what_did_not_leave_has_failed() -> None:
    async def send() -> list[int]:
        core, results = _Core(), (SendResult(error=1, sent=300), SendResult(error=1), SendResult())
        network = _network(core, cast(Bind, _Socket(results=results)))
        network.send([Transmit(_PATHS[0], [bytes(950)], 100, 0, 950, None)] * 3)
        return core.failed

    assert asyncio.run(send()) == [650, 950]
