"""How large packets come through to an address: asked by sending some. Blocking.

A datagram to a port where nobody listens: the host it reaches says so (ICMP), so neither end needs
a program or a raw socket for it.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

# discard (RFC 863), where nobody has listened for long.
_PORT = 9
_HEADERS = {socket.AF_INET: 28, socket.AF_INET6: 48}
# By family: level, and options MTU_DISCOVER and MTU of linux/in.h and linux/in6.h.
_OPTIONS = {
    socket.AF_INET: (socket.IPPROTO_IP, 10, 14),
    socket.AF_INET6: (socket.IPPROTO_IPV6, 23, 24),
}
_PMTUDISC_DO = 2
_TRIES = 3
_TIMEOUT = 1.0


def path_mtu(address: str) -> int:
    """Bytes of the largest packet to `address`, as far as this host knows; 0: no route."""
    try:
        with _connected(address) as sock:
            level, _, option = _OPTIONS[sock.family]
            return sock.getsockopt(level, option)
    except OSError:
        return 0


def comes_through(address: str, size: int) -> bool:
    """Whether a packet of `size` bytes, headers included, gets there in one piece."""
    for _ in range(_TRIES):
        try:
            with _connected(address) as sock:
                sock.send(bytes(size - _HEADERS[sock.family]))
                sock.recv(1)
        except ConnectionRefusedError:
            return True
        except TimeoutError:
            continue
        except OSError:
            return False
    return False


@contextmanager
def _connected(address: str) -> Iterator[socket.socket]:
    """A socket whose packets are not to be fragmented. OSError."""
    family = socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        level, discover, _ = _OPTIONS[sock.family]
        sock.setsockopt(level, discover, _PMTUDISC_DO)
        sock.settimeout(_TIMEOUT)
        sock.connect((address, _PORT))
        yield sock
