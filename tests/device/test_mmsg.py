import errno
import socket
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from wgpy.device import ancillary, mmsg


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
    ):
        sender.bind(("127.0.0.1", 0))
        receiver.bind(("127.0.0.1", 0))
        sender.setblocking(False)
        receiver.setblocking(False)
        yield sender, receiver


Pair = tuple[socket.socket, socket.socket]


_PROBE = """
import sys
from tests.cluster import oldkernel
error, *calls = sys.argv[1:]
for call in calls:
    oldkernel.forget_call(call, int(error))
from wgpy.device import mmsg
print(*["sendmmsg"] * mmsg.can_send(), *["recvmmsg"] * mmsg.can_receive())
"""


# A kernel without a call answers ENOSYS, a container whose filter forbids it often EPERM.
@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM])
@pytest.mark.parametrize("works", [[], ["sendmmsg"], ["recvmmsg"], ["sendmmsg", "recvmmsg"]])
def test_each_call_is_probed_alone(works: list[str], error: int) -> None:
    lacks = [call for call in ("sendmmsg", "recvmmsg") if call not in works]
    words = [sys.executable, "-c", _PROBE, str(error), *lacks]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout.split() == works


def test_a_c_library_may_lack_either_call(monkeypatch: pytest.MonkeyPatch) -> None:
    real = mmsg._libc
    monkeypatch.setattr(mmsg, "_libc", SimpleNamespace(sendmmsg=real.sendmmsg))
    assert (mmsg.can_send(), mmsg.can_receive()) == (True, False)
    monkeypatch.setattr(mmsg, "_libc", SimpleNamespace(recvmmsg=real.recvmmsg))
    assert (mmsg.can_send(), mmsg.can_receive()) == (False, True)


def test_more_datagrams_than_one_call_takes_are_all_sent(pair: Pair) -> None:
    sender, receiver = pair
    name = ancillary.pack_address(receiver.getsockname())
    whole = bytes(range(150)) * 4 + b"end"
    assert mmsg.Sender().send(sender, name, b"", whole, 4) == (603, 0)
    got = [receiver.recv(100) for _ in range(151)]
    assert got == [whole[k : k + 4] for k in range(0, 603, 4)]


def test_a_sender_speaks_to_whom_each_call_names(pair: Pair) -> None:
    first, second = pair
    sender = mmsg.Sender()
    for receiver, text in ((second, b"to two"), (first, b"to one"), (second, b"again!")):
        name = ancillary.pack_address(receiver.getsockname())
        assert sender.send(first, name, b"", text, 3) == (6, 0)
        assert receiver.recv(9) + receiver.recv(9) == text


def test_a_failure_is_an_errno_and_what_was_sent(pair: Pair) -> None:
    sender, _ = pair
    name = ancillary.pack_address(("255.255.255.255", 9))
    assert mmsg.Sender().send(sender, name, b"", b"four" * 2, 4) == (0, errno.EACCES)


def test_a_run_ends_with_a_shorter_datagram_a_longer_one_or_another_sender(pair: Pair) -> None:
    sender, receiver = pair
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        to = receiver.getsockname()
        for size in (10, 10, 4, 4, 9):
            sender.sendto(bytes(size), to)
        other.sendto(bytes(9), to)
        runs = _runs(mmsg.Receiver(receiver))
    assert [(run.size, run.segment) for run in runs] == [(24, 10), (4, 4), (9, 9), (9, 9)]
    names = [ancillary.unpack_address(run.name) for run in runs]
    assert names[0] == names[1] == names[2] == sender.getsockname() != names[3]


def test_a_run_is_not_longer_than_the_view(pair: Pair) -> None:
    sender, receiver = pair
    for k in range(5):
        sender.sendto(bytes((k,)) * 10, receiver.getsockname())
    many = mmsg.Receiver(receiver)
    view = memoryview(bytearray(25))
    taken = b""
    while not isinstance(run := many.receive(view), int):
        assert run.size in (20, 10)
        taken += view[: run.size]
    assert run == errno.EAGAIN
    assert taken == b"".join(bytes((k,)) * 10 for k in range(5))


def _runs(many: mmsg.Receiver) -> list[mmsg.Run]:
    runs = []
    view = memoryview(bytearray(65536))
    while not isinstance(run := many.receive(view), int):
        runs.append(run)
    assert run == errno.EAGAIN
    return runs
