"""A device on a TUN in memory, whose link says what the test wants."""

import asyncio
import errno
import socket
from collections.abc import Callable, Iterator

import pytest

from tun import LinkState
from tun.fake import FakeTun
from wgpy.device import device
from wgpy.device.device import Device
from wgpy.protocol.batch import MAX_BATCH

_LARGEST_DATAGRAM = 65507
_OVERHEAD = 32


class _Link:
    """A link that is down, and what it was told."""

    def __init__(self, mtu: int) -> None:
        self.mtu = mtu
        self.limits: list[tuple[int, int]] = []
        self.refuses = False
        self._device_end, self._news = socket.socketpair()

    def change_mtu(self, mtu: int) -> None:
        self.mtu = mtu
        self._news.send(b"!")

    def fileno(self) -> int:
        return self._device_end.fileno()

    def read(self) -> bool:
        return bool(self._device_end.recv(1))

    def state(self) -> LinkState:
        return LinkState(False, self.mtu, 1, "fake0", 500)

    def addresses(self) -> tuple[None, None]:
        return None, None

    def set_gso_limits(self, size: int, segments: int) -> None:
        if self.refuses:
            raise OSError(errno.EPERM, "refused")
        self.limits.append((size, segments))

    def set_queue_length(self, packets: int) -> None: ...

    def close(self) -> None:
        self._device_end.close()
        self._news.close()


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Link]:
    link = _Link(1420)
    monkeypatch.setattr(device, "LinkMonitor", lambda tun: link)
    yield link
    link.close()


def _play(*steps: Callable[[], None]) -> None:
    """Make a device, and let it hear of each step."""

    async def play() -> None:
        with Device(FakeTun.open("fake0")):
            for step in steps:
                step()
                # The loop finds it readable, then calls back.
                for _ in range(3):
                    await asyncio.sleep(0)

    asyncio.run(play())


@pytest.mark.parametrize("mtu", [576, 1280, 1420, 8920, 32736])
def test_super_packets_of_the_host_are_as_large_as_one_send_takes(link: _Link, mtu: int) -> None:
    _play(lambda: link.change_mtu(mtu))
    size, segments = link.limits[-1]
    datagrams = segments * (mtu + _OVERHEAD)
    assert datagrams <= _LARGEST_DATAGRAM < datagrams + mtu + _OVERHEAD
    # All these segments fit, with the headers that the kernel counts too, but not one more.
    assert 100 <= size - segments * mtu < mtu


def test_their_bounds_follow_the_mtu(link: _Link) -> None:
    _play(
        lambda: None,
        lambda: link.change_mtu(8920),
        # News of something else.
        lambda: link.change_mtu(8920),
        lambda: link.change_mtu(1420),
    )
    assert link.limits == [
        (45 * 1420 + 320, 45),
        (7 * 8920 + 320, 7),
        (45 * 1420 + 320, 45),
    ]


def test_no_bound_is_beyond_what_the_kernel_and_a_batch_take(link: _Link) -> None:
    _play(lambda: link.change_mtu(100), lambda: link.change_mtu(65535))
    assert link.limits[-2:] == [(MAX_BATCH * 100 + 320, MAX_BATCH), (65536, 1)]


def test_who_may_not_bound_them_does_without(link: _Link) -> None:
    link.refuses = True
    _play(lambda: link.change_mtu(1280))
    assert link.limits == []
