"""A TUN of Linux: packets in and out, with the kernel's offloads (linux/if_tun.h)."""

import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, TypeAlias

from tun.virtio import HEADER_LEN

Buffer: TypeAlias = bytes | bytearray | memoryview

_DEVICE = "/dev/net/tun"
_TUNSETIFF = 0x400454CA
_TUNGETIFF = 0x800454D2
_TUNSETOFFLOAD = 0x400454D0
_TUNSETVNETHDRSZ = 0x400454D8
_TUNGETDEVNETNS = 0x54E3
_IFF_TUN = 0x0001
_IFF_NO_PI = 0x1000
_IFF_VNET_HDR = 0x4000
_IFF_MULTI_QUEUE = 0x0100
_IFF_TUN_EXCL = 0x8000
_F_CSUM, _F_TSO4, _F_TSO6, _F_TSO_ECN, _F_USO4, _F_USO6 = 0x01, 0x02, 0x04, 0x08, 0x20, 0x40
_IFREQ = struct.Struct("16sH22x")
_NAME_MAX = 15


@dataclass(frozen=True, slots=True)
class Offloads:
    """What the kernel leaves to us, and takes from us: each was tried."""

    vnet_header: bool = False
    checksum: bool = False
    tso4: bool = False
    tso6: bool = False
    ecn: bool = False
    uso: bool = False


class Tun:
    """One open TUN. It vanishes with its last descriptor."""

    def __init__(self, fd: int, offloads: Offloads) -> None:
        """Takes over `fd`; for `open` and `from_fd`."""
        self.fd = fd
        self.offloads = offloads

    @classmethod
    def open(cls, name: str, *, offloads: bool = True, uso: bool = True) -> Self:
        """Make the interface `name` (`%d` in it becomes a free number), still down.

        OSError says what is in the way, and what to do about it.
        """
        fd = _attach(name, _IFF_VNET_HDR if offloads else 0)
        return cls._of(fd, offloads, uso)

    @classmethod
    def open_queues(
        cls, name: str, count: int, *, offloads: bool = True, uso: bool = True
    ) -> list[Self]:
        """As `open`, with `count` queues; the kernel keeps each flow in one of them.

        Only of a new interface: that of another process would take a queue of ours as well.
        """
        flags = _IFF_MULTI_QUEUE | (_IFF_VNET_HDR if offloads else 0)
        queues: list[Self] = []
        try:
            queues.append(cls._of(_attach(name, flags | _IFF_TUN_EXCL), offloads, uso))
            name = queues[0].name
            for _ in range(count - 1):
                queues.append(cls._of(_attach(name, flags), offloads, uso))
        except BaseException:
            for queue in queues:
                queue.close()
            raise
        return queues

    @classmethod
    def _of(cls, fd: int, offloads: bool, uso: bool) -> Self:
        try:
            return cls(fd, _probe(fd, uso) if offloads else Offloads())
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def from_fd(cls, fd: int, *, offloads: bool = True, uso: bool = True) -> Self:
        """Take over a TUN that somebody else opened. OSError EINVAL if it is none."""
        try:
            _, flags = _IFREQ.unpack(fcntl.ioctl(fd, _TUNGETIFF, bytes(_IFREQ.size)))
        except OSError as error:
            raise OSError(errno.EINVAL, f"descriptor {fd} is not an attached TUN") from error
        if not flags & _IFF_TUN or not flags & _IFF_NO_PI:
            raise OSError(errno.EINVAL, f"descriptor {fd} is not a TUN with IFF_NO_PI")
        os.set_blocking(fd, False)
        os.set_inheritable(fd, False)
        if not flags & _IFF_VNET_HDR:
            return cls(fd, Offloads())
        # Whoever opened it may have wanted another size.
        fcntl.ioctl(fd, _TUNSETVNETHDRSZ, struct.pack("i", HEADER_LEN))
        if not offloads:
            fcntl.ioctl(fd, _TUNSETOFFLOAD, 0)
            return cls(fd, Offloads(vnet_header=True))
        return cls(fd, _probe(fd, uso))

    @property
    def name(self) -> str:
        """The name that the interface has now. OSError EBADFD if it was deleted."""
        name, _ = _IFREQ.unpack(fcntl.ioctl(self.fd, _TUNGETIFF, bytes(_IFREQ.size)))
        return os.fsdecode(name.rstrip(b"\0"))

    def namespace_fd(self) -> int | None:
        """A descriptor of the network namespace where the interface is now.

        None where the kernel is too old to tell. PermissionError without CAP_NET_ADMIN there,
        OSError EBADFD if the interface was deleted.
        """
        try:
            return int(fcntl.ioctl(self.fd, _TUNGETDEVNETNS))
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOTTY):
                return None
            raise

    def read(self, header: memoryview, packet: memoryview) -> int:
        """Read one packet, and its virtio-net header (zeros where there is none).

        Returns the packet's length. BlockingIOError when nothing waits; OSError EBADFD when the
        interface was deleted.
        """
        if self.offloads.vnet_header:
            return os.readv(self.fd, (header, packet)) - HEADER_LEN
        header[:HEADER_LEN] = bytes(HEADER_LEN)
        return os.readv(self.fd, (packet,))

    def write(self, buffers: Sequence[Buffer]) -> None:
        """Write one packet: a virtio-net header, then the packet in pieces.

        OSError EIO while the interface is down, EINVAL for what is no packet.
        """
        os.writev(self.fd, buffers if self.offloads.vnet_header else buffers[1:])

    def close(self) -> None:
        """Give up the interface: it vanishes. May be called again."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _attach(name: str, flags: int) -> int:
    """A descriptor of the interface `name`, which is made unless it is there and takes more."""
    if not 0 < len(os.fsencode(name)) <= _NAME_MAX:
        raise OSError(errno.EINVAL, f"{name!r}: an interface name has 1 to {_NAME_MAX} bytes")
    try:
        fd = os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _explain_device(error) from error
    try:
        request = _IFREQ.pack(os.fsencode(name), _IFF_TUN | _IFF_NO_PI | flags)
        fcntl.ioctl(fd, _TUNSETIFF, request)
    except OSError as error:
        os.close(fd)
        raise _explain_name(error, name) from error
    return fd


def _probe(fd: int, uso: bool) -> Offloads:
    """Ask for one feature after the other, keeping what the kernel has."""
    taken = 0

    def take(flags: int) -> bool:
        nonlocal taken
        with contextlib.suppress(OSError):
            fcntl.ioctl(fd, _TUNSETOFFLOAD, taken | flags)
            taken |= flags
            return True
        return False

    checksum = take(_F_CSUM)
    # All others need the checksum.
    tso4 = checksum and take(_F_TSO4)
    tso6 = checksum and take(_F_TSO6)
    ecn = tso4 and tso6 and take(_F_TSO_ECN)
    # Since Linux 6.2, and only both together.
    uso = uso and checksum and take(_F_USO4 | _F_USO6)
    return Offloads(True, checksum, tso4, tso6, ecn, uso)


def _explain_device(error: OSError) -> OSError:
    number = error.errno or errno.EIO
    if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        advice = "the kernel has no TUN here: load the module (modprobe tun) or pass the device in"
    elif number in (errno.EACCES, errno.EPERM):
        advice = "not permitted: run as root, and allow the device in the container"
    else:
        advice = os.strerror(number)
    return OSError(number, f"cannot open {_DEVICE}: {advice}")


def _explain_name(error: OSError, name: str) -> OSError:
    number = error.errno or errno.EIO
    if number == errno.EBUSY:
        advice = "another process has it, or an interface of another kind has the name"
    elif number == errno.EINVAL:
        advice = "the name is not allowed, or an interface of another kind has it"
    elif number == errno.EPERM:
        advice = "not permitted: CAP_NET_ADMIN is missing"
    else:
        advice = os.strerror(number)
    return OSError(number, f"cannot make interface {name}: {advice}")
