"""Opening UDP sockets as the kernel's WireGuard has them."""

import ctypes
import errno
import socket
import struct
import sys

from wgpy.device import ancillary
from wgpy.device.sizes import RECEIVE_BUFFER, SEND_BUFFER
from wgpy.protocol.constants import MESSAGE_TRANSPORT

# include/uapi/asm-generic/socket.h, include/uapi/linux/in.h, in6.h
_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33
_IP_MTU_DISCOVER = 10
_IPV6_MTU_DISCOVER = 23
_IPV6_AUTOFLOWLABEL = 70
_PMTUDISC_DONT = 0
_SO_ATTACH_REUSEPORT_CBPF = 51


_PORT_TRIES = 10
# struct sock_filter of linux/filter.h: code, jump if true, jump if false, k.
_BPF = struct.Struct("HBBI")


def open_groups(port: int, fwmark: int, owners: int) -> list[list[socket.socket]]:
    """As `open_both`, for each of several processes that share the port.

    The kernel gives each datagram to the process that owns it (`owner_of` its receiver index),
    and what is no transport message to the first.
    """
    first = open_both(port, fwmark)
    groups = [first]
    try:
        port = first[0].getsockname()[1]
        # The port was free; now it is opened again to be shared.
        for sock in first:
            sock.close()
        groups = [_open_both(port, fwmark, shared=True) for _ in range(owners)]
        for sock in groups[0]:
            _steer(sock, owners)
    except BaseException:
        for group in groups:
            for sock in group:
                sock.close()
        raise
    return groups


def _steer(sock: socket.socket, owners: int) -> None:
    """Choose among the sockets of a port, in the order of their binding (SO_REUSEPORT)."""
    program = (
        _BPF.pack(0x30, 0, 0, 0),  # A = message type
        _BPF.pack(0x15, 1, 0, MESSAGE_TRANSPORT),  # a transport message: skip one
        _BPF.pack(0x06, 0, 0, 0),  # return 0
        _BPF.pack(0x30, 0, 0, 7),  # A = last byte of the receiver index; return 0 if it is missing
        _BPF.pack(0x94, 0, 0, owners),  # A %= owners
        _BPF.pack(0x16, 0, 0, 0),  # return A
    )
    code = ctypes.create_string_buffer(b"".join(program))
    fprog = struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, fprog)


def open_both(port: int, fwmark: int) -> list[socket.socket]:
    """Sockets on `port`, IPv4 first, of the families that this host has; 0 finds a free port.

    Raises OSError, with nothing left open, when the port is taken or there is no family at all.
    """
    for _ in range(_PORT_TRIES - 1):
        try:
            return _open_both(port, fwmark)
        except OSError as error:
            # The port that is free for IPv4 may be taken for IPv6.
            if port or error.errno != errno.EADDRINUSE:
                raise
    return _open_both(port, fwmark)


def _open_both(port: int, fwmark: int, shared: bool = False) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    try:
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                sock = socket.socket(family, socket.SOCK_DGRAM)
            except OSError as error:
                if error.errno != errno.EAFNOSUPPORT:
                    raise
                continue
            sockets.append(sock)
            _prepare(sock, fwmark)
            if shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(("", port))
            port = sock.getsockname()[1]
        if not sockets:
            raise OSError(errno.EAFNOSUPPORT, "this host has neither IPv4 nor IPv6")
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _prepare(sock: socket.socket, fwmark: int) -> None:
    sock.setblocking(False)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_DONT)
        # Zero, as the kernel's WireGuard has it: a label would tell peers apart.
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_AUTOFLOWLABEL, 0)
    else:
        # Without the don't-fragment bit: what does not fit the path is fragmented.
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DONT)
    ancillary.request(sock)
    _set_buffer(sock, _SO_RCVBUFFORCE, socket.SO_RCVBUF, RECEIVE_BUFFER)
    _set_buffer(sock, _SO_SNDBUFFORCE, socket.SO_SNDBUF, SEND_BUFFER)
    if fwmark:
        set_mark(sock, fwmark)


def _set_buffer(sock: socket.socket, force: int, option: int, size: int) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, force, size)
    except PermissionError:
        # As much as net.core.rmem_max and wmem_max allow.
        sock.setsockopt(socket.SOL_SOCKET, option, size)


def set_mark(sock: socket.socket, fwmark: int) -> None:
    """Mark what the socket sends (SO_MARK). Raises OSError."""
    # A C int for the kernel, an unsigned number for everyone else.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, fwmark.to_bytes(4, sys.byteorder))
