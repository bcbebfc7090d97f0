"""What comes through to an address, and how much of it: asked by sending some. Blocking.

A datagram to a port where nobody listens: the host it reaches says so (ICMP), so neither end needs
a program or a raw socket for it.
"""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from errno import ECONNREFUSED, EMSGSIZE
from ipaddress import ip_address
from struct import Struct
from typing import Literal, TypeAlias

# discard (RFC 863), where nobody has listened for long.
PORT = 9
SMALL = 64
_HEADERS = {socket.AF_INET: 28, socket.AF_INET6: 48}
# By family: level, and options MTU_DISCOVER, MTU, RECVERR and TRANSPARENT of linux/in.h and in6.h.
_OPTIONS = {
    socket.AF_INET: (socket.IPPROTO_IP, 10, 14, 11, 19),
    socket.AF_INET6: (socket.IPPROTO_IPV6, 23, 24, 25, 75),
}
_PMTUDISC_DO = 2
_TRIES = 3
_TIMEOUT = 1.0
# linux/errqueue.h: errno, who has found it (1: this host), the rest of it.
_EXTENDED_ERROR = Struct("=IB11x")
_LOCAL = 1
_MSG_ERRQUEUE = 0x2000
# linux/in.h and in6.h: the interface, and no address.
_IP_PKTINFO = 8
_PKTINFO4, _PKTINFO6 = Struct("=I8x"), Struct("=16xI")

# Reached; somebody on the way says that there is no way; not even this host has one; nothing heard.
Heard: TypeAlias = Literal["reached", "unreachable", "no way", "too large", "silence"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What has become of a packet."""

    heard: Heard
    # Until it was heard.
    seconds: float = 0.0


def path_mtu(address: str) -> int:
    """Bytes of the largest packet to `address`, as far as this host knows; 0: no route."""
    try:
        with _socket(address) as sock:
            sock.connect((address, PORT))
            level, _, option, *_ = _OPTIONS[sock.family]
            return sock.getsockopt(level, option)
    except OSError:
        return 0


def comes_through(address: str, size: int) -> bool:
    """Whether a packet of `size` bytes, headers included, gets there in one piece."""
    return ask(address, size).heard == "reached"


def ask(
    address: str,
    size: int = SMALL,
    timeout: float = _TIMEOUT,
    tries: int = _TRIES,
    device: str = "",
) -> Answer:
    """What becomes of a packet of `size` bytes; silence is asked again, each for `timeout`.

    It leaves by `device` or not at all; default: as routes say.
    """
    answer = Answer("silence")
    for _ in range(tries):
        answer = _ask_once(address, size, timeout, device)
        if answer.heard != "silence":
            break
    return answer


def _ask_once(address: str, size: int, timeout: float, device: str) -> Answer:
    began = time.monotonic()
    try:
        with _socket(address) as sock:
            level, _, _, recverr, _ = _OPTIONS[sock.family]
            # Otherwise a datagram socket hears nothing of what may be over in a moment.
            sock.setsockopt(level, recverr, 1)
            sock.settimeout(timeout)
            try:
                payload = bytes(size - _HEADERS[sock.family])
                to = (address, PORT)
                # Before it is connected: of one with a source, IPv6 takes the device for a wish.
                sock.sendmsg([payload], _by(sock.family, device), 0, to)
                sock.connect(to)
                sock.recv(1)
                return Answer("reached", time.monotonic() - began)
            except TimeoutError:
                return Answer("silence", time.monotonic() - began)
            except OSError as error:
                return Answer(_heard(sock, error), time.monotonic() - began)
    except OSError:
        return Answer("no way")


def _by(family: socket.AddressFamily, device: str) -> list[tuple[int, int, bytes]]:
    """The control messages of a send by that interface, which needs no privilege."""
    if not device:
        return []
    index = socket.if_nametoindex(device)
    if family == socket.AF_INET:
        return [(socket.IPPROTO_IP, _IP_PKTINFO, _PKTINFO4.pack(index))]
    return [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _PKTINFO6.pack(index))]


def _heard(sock: socket.socket, error: OSError) -> Heard:
    if error.errno == ECONNREFUSED:
        return "reached"
    if error.errno == EMSGSIZE:
        return "too large"
    try:
        _, notes, _, _ = sock.recvmsg(1, 256, _MSG_ERRQUEUE | socket.MSG_DONTWAIT)
        _, origin = _EXTENDED_ERROR.unpack_from(notes[0][2])
    except (OSError, IndexError):
        return "no way"  # this host itself has refused to send it
    return "no way" if origin == _LOCAL else "unreachable"


def pose(source: str, target: str, count: int) -> None:
    """Send `count` small packets that are not ours: `target` will answer `source`. OSError.

    So a pod sends a packet of its own to whomever we like, and needs no program for it.
    """
    family = _family(target)
    level, *_, transparent = _OPTIONS[family]
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(level, transparent, 1)
        sock.bind((source, 0))
        for _ in range(count):
            sock.sendto(b"", (target, PORT))
            time.sleep(0.05)


@contextmanager
def _socket(address: str) -> Iterator[socket.socket]:
    """A socket for datagrams to `address` that are not to be fragmented. OSError."""
    with socket.socket(_family(address), socket.SOCK_DGRAM) as sock:
        level, discover, *_ = _OPTIONS[sock.family]
        sock.setsockopt(level, discover, _PMTUDISC_DO)
        yield sock


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET
