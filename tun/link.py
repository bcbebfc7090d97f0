"""Following the link of a TUN: up, MTU, addresses, in whatever namespace it is."""

import ctypes
import errno
import logging
import os
import socket
import threading
from collections.abc import Callable
from struct import Struct
from typing import NamedTuple, TypeVar

from tun import netlink
from tun.linux import Tun

_log = logging.getLogger("tun")

# RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR
_GROUPS = sum(1 << group - 1 for group in (1, 5, 9))
_IFF_UP = 1
_IFLA_IFNAME, _IFLA_MTU, _IFLA_TXQLEN = 3, 4, 13
_IFLA_GSO_MAX_SEGS, _IFLA_GSO_MAX_SIZE = 40, 41
_IFLA_AF_SPEC, _IFLA_INET6_ADDR_GEN_MODE, _ADDR_GEN_MODE_NONE = 26, 8, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RT_SCOPE_UNIVERSE = 0
_IFINFOMSG = Struct("=BxHiII")
_IFADDRMSG = Struct("=BBBBi")
_UINT = Struct("=I")
_TCMSG = Struct("=BxxxiIII")
_TC_H_ROOT, _TCA_KIND = 0xFFFFFFFF, 1
_CLONE_NEWNET = 0x40000000

T = TypeVar("T")


class LinkState(NamedTuple):
    """What the kernel says of the interface."""

    up: bool
    mtu: int
    ifindex: int
    name: str
    queue_length: int


class LinkMonitor:
    """Events and facts about one TUN's interface."""

    def __init__(self, tun: Tun) -> None:
        """Raises OSError."""
        self._tun = tun
        self._state = LinkState(False, 0, 0, "", 0)
        try:
            namespace = tun.namespace_fd()
        except PermissionError:
            # A descriptor that was given to a process without rights: most likely it is our own.
            namespace = None
        self._follow(namespace)

    def _follow(self, namespace: int | None) -> None:
        """Open sockets in the namespace where the interface is."""
        self._events, self._requests = _inside(
            namespace, lambda: (netlink.open_socket(_GROUPS), netlink.open_socket())
        )
        self._state = self._ask()

    def fileno(self) -> int:
        """Readable when something may have changed: then `read`. May change in `read`."""
        return self._events.fileno()

    def read(self) -> bool:
        """Take what is there to read; whether anything of this interface may have changed.

        OSError when the interface was deleted.
        """
        changed = False
        for kind, body in netlink.drain(self._events):
            if not kind or _UINT.unpack_from(body, 4)[0] == self._state.ifindex:
                changed = True
        if changed:
            try:
                self._state = self._ask()
            except OSError as error:
                if error.errno != errno.ENODEV:
                    raise
                # Gone from here: deleted, and then this raises, or moved.
                self._change_namespace(self._tun.name)
        return changed

    def _change_namespace(self, name: str) -> None:
        before = self._events, self._requests
        try:
            self._follow(self._tun.namespace_fd())
        except PermissionError:
            _log.warning(
                "cannot follow %s into its new network namespace (CAP_SYS_ADMIN is missing): "
                "taking it for up",
                name,
            )
            self._state = self._state._replace(up=True)
            return
        for sock in before:
            sock.close()

    def state(self) -> LinkState:
        """As of the last `read`."""
        return self._state

    def _ask(self) -> LinkState:
        name = netlink.attribute(_IFLA_IFNAME, os.fsencode(self._tun.name) + b"\0")
        (answer,) = netlink.request(
            self._requests, netlink.RTM_GETLINK, 0, _IFINFOMSG.pack(0, 0, 0, 0, 0) + name
        )
        _, _, index, flags, _ = _IFINFOMSG.unpack_from(answer)
        found = netlink.attributes(answer, _IFINFOMSG.size)
        (mtu,) = _UINT.unpack(found[_IFLA_MTU])
        text = os.fsdecode(found[_IFLA_IFNAME].rstrip(b"\0"))
        (queue_length,) = _UINT.unpack(found[_IFLA_TXQLEN])
        return LinkState(bool(flags & _IFF_UP), mtu, index, text, queue_length)

    def addresses(self) -> tuple[bytes | None, bytes | None]:
        """The interface's first IPv4 and first global IPv6 address, packed."""
        found: dict[int, bytes] = {}
        answers = netlink.request(
            self._requests, netlink.RTM_GETADDR, netlink.NLM_F_DUMP, _IFADDRMSG.pack(0, 0, 0, 0, 0)
        )
        for answer in answers:
            family, _, _, scope, index = _IFADDRMSG.unpack_from(answer)
            if index != self._state.ifindex:
                continue
            values = netlink.attributes(answer, _IFADDRMSG.size)
            address = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
            if address and (family == socket.AF_INET or scope == _RT_SCOPE_UNIVERSE):
                found.setdefault(family, address)
        return found.get(socket.AF_INET), found.get(socket.AF_INET6)

    def set_mtu(self, mtu: int) -> None:
        """OSError EINVAL for what the kernel does not allow."""
        self._set(netlink.attribute(_IFLA_MTU, _UINT.pack(mtu)))

    def set_queue_length(self, packets: int) -> None:
        """How many may wait to be read. OSError."""
        self._set(netlink.attribute(_IFLA_TXQLEN, _UINT.pack(packets)))

    def set_no_queue_discipline(self) -> None:
        """Nothing between the host and the queues that are read, as the kernel's tunnels have it:
        what finds them full is refused, and its sender knows. OSError.
        """
        head = _TCMSG.pack(0, self._state.ifindex, 0, _TC_H_ROOT, 0)
        kind = netlink.attribute(_TCA_KIND, b"noqueue\0")
        flags = netlink.NLM_F_CREATE | netlink.NLM_F_REPLACE | netlink.NLM_F_ACK
        netlink.request(self._requests, netlink.RTM_NEWQDISC, flags, head + kind)

    def set_no_link_local(self) -> None:
        """No IPv6 address but those given to it, as the kernel's tunnels have it. OSError."""
        mode = netlink.attribute(_IFLA_INET6_ADDR_GEN_MODE, bytes((_ADDR_GEN_MODE_NONE,)))
        inet6 = netlink.attribute(socket.AF_INET6, mode)
        self._set(netlink.attribute(_IFLA_AF_SPEC, inet6))

    def set_gso_limits(self, size: int, segments: int) -> None:
        """Bound the super-packets of the host: bytes with headers, and segments. OSError."""
        limits = netlink.attribute(_IFLA_GSO_MAX_SIZE, _UINT.pack(size))
        self._set(limits + netlink.attribute(_IFLA_GSO_MAX_SEGS, _UINT.pack(segments)))

    def _set(self, changes: bytes) -> None:
        head = _IFINFOMSG.pack(0, 0, self._state.ifindex, 0, 0)
        netlink.request(self._requests, netlink.RTM_NEWLINK, netlink.NLM_F_ACK, head + changes)

    def close(self) -> None:
        self._events.close()
        self._requests.close()


def _inside(namespace: int | None, make: Callable[[], T]) -> T:
    """Call `make` in a network namespace, whose descriptor is closed then. OSError."""
    if namespace is None:
        return make()
    try:
        there, here = os.fstat(namespace), os.stat("/proc/thread-self/ns/net")
        if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino):
            return make()
        return _in_thread(namespace, make)
    finally:
        os.close(namespace)


def _in_thread(namespace: int, make: Callable[[], T]) -> T:
    """A namespace belongs to a thread: one that ends afterwards cannot forget to come back."""
    results: list[T] = []
    errors: list[OSError] = []

    def enter() -> None:
        try:
            if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET):
                number = ctypes.get_errno()
                raise OSError(number, f"setns: {os.strerror(number)}")
            results.append(make())
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
