"""UDP_SEGMENT and UDP_GRO: many equal datagrams in one system call.

sendmsg, 3 rows + UDP_SEGMENT=n       | n bytes | n bytes | the rest |  -> 3 datagrams
recvmsg, control message UDP_GRO=n    | n bytes | n bytes | the rest |  <- 3 datagrams
"""

import errno
import socket
from functools import lru_cache
from struct import Struct

from wgpy.device.ancillary import ControlMessage

# include/uapi/linux/udp.h
UDP_SEGMENT = 103
UDP_GRO = 104

# UDP_MAX_SEGMENTS is 64 until Linux 6.9 and 128 since; more than 64 gain nothing.
MAX_SEGMENTS = 64

# Why a send with UDP_SEGMENT may fail though plain sends would not: no checksum offload on the
# way (EIO), a segment longer than the path's MTU (EMSGSIZE, EINVAL on older kernels).
REFUSALS = frozenset((errno.EIO, errno.EMSGSIZE, errno.EINVAL))

_UINT16 = Struct("=H")


def can_segment(sock: socket.socket) -> bool:
    """Whether the kernel knows UDP_SEGMENT."""
    try:
        sock.getsockopt(socket.IPPROTO_UDP, UDP_SEGMENT)
    except OSError:
        return False
    return True


def join_received(sock: socket.socket) -> bool:
    """Turn UDP_GRO on. False if the kernel cannot."""
    try:
        sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    except OSError:
        return False
    return True


@lru_cache(maxsize=1024)
def segment_message(segment: int) -> ControlMessage:
    """The control message that cuts one send into datagrams of `segment` bytes."""
    return socket.IPPROTO_UDP, UDP_SEGMENT, _UINT16.pack(segment)
