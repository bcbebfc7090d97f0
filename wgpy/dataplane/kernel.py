"""The plane of the kernel's WireGuard, over netlink, in the present network namespace."""

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EBUSY, EEXIST, EINVAL, ENODEV, ENOENT, EOPNOTSUPP, EPERM
from functools import partial

from wgpy.dataplane.base import DataPlaneError, check_name
from wgpy.dataplane.kernelwire import (
    CMD_GET_DEVICE,
    CMD_SET_DEVICE,
    FAMILY,
    VERSION,
    decode_dump,
    device_name,
    encode_change,
)
from wgpy.dataplane.netlink import (
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    GenericNetlink,
    Netlink,
    attribute,
    attributes,
    nested,
)
from wgpy.dataplane.removal import set_anywhere
from wgpy.protocol.config import InterfaceChange, InterfaceStats

# linux/rtnetlink.h, linux/if_link.h
_RTM_NEWLINK = 16
_RTM_DELLINK = 17
_RTM_GETLINK = 18
# struct ifinfomsg of nothing in particular.
_ANY_LINK = bytes(16)
_IFLA_IFNAME = 3
_IFLA_LINKINFO = 18
_IFLA_INFO_KIND = 1
_KIND = b"wireguard"

# A dump is disturbed when somebody configures meanwhile.
_DUMP_ATTEMPTS = 10
# How the kernel says of a name that it is none, of another kind, or that it has no WireGuard.
_NO_INTERFACE = (ENODEV, EOPNOTSUPP, ENOENT)


class KernelPlane:
    """WireGuard in the kernel; see base.DataPlane.

    A change of many peers takes several messages: an error in one leaves the earlier applied.
    """

    def names(self) -> list[str]:
        """Names of the interfaces of this kind, sorted."""
        with _told("the kernel's interfaces"):
            return sorted(name for name, kind in self._links() if kind == _KIND)

    def _links(self) -> list[tuple[str, bytes]]:
        with Netlink(socket.NETLINK_ROUTE) as netlink:
            answers = _patiently(lambda: netlink.request(_RTM_GETLINK, NLM_F_DUMP, _ANY_LINK))
        return [_name_and_kind(answer[len(_ANY_LINK) :]) for answer in answers]

    def get(self, name: str) -> InterfaceStats:
        """What interface `name` tells; without its private key if that is not ours to know."""
        check_name(name)
        with _told(name, _NO_INTERFACE), GenericNetlink(FAMILY, VERSION) as netlink:
            return _get(netlink, name)

    def set(self, name: str, change: InterfaceChange) -> None:
        """Apply `change`, in several messages if it is large."""
        check_name(name)
        with _told(name, _NO_INTERFACE), GenericNetlink(FAMILY, VERSION) as netlink:
            set_anywhere(partial(_send, netlink, name), partial(_get, netlink, name), change)

    def create(self, name: str) -> None:
        """Make a link; EOPNOTSUPP when this kernel has no WireGuard."""
        check_name(name)
        kind = nested(_IFLA_LINKINFO, attribute(_IFLA_INFO_KIND, _KIND))
        with _told(name), Netlink(socket.NETLINK_ROUTE) as netlink:
            netlink.request(
                _RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, _ANY_LINK + _ifname(name) + kind
            )

    def delete(self, name: str) -> None:
        """Remove the link; ENODEV if it is of another kind."""
        if name not in self.names():
            raise DataPlaneError(ENODEV, f"{name}: no such WireGuard interface in the kernel")
        with _told(name), Netlink(socket.NETLINK_ROUTE) as netlink:
            netlink.request(_RTM_DELLINK, 0, _ANY_LINK + _ifname(name))


def has_module() -> bool:
    """Whether the kernel has WireGuard; loads its module, makes nothing. OSError."""
    try:
        with GenericNetlink(FAMILY, VERSION):
            return True
    except OSError as error:
        if error.errno == ENOENT:
            return False
        raise


def _ifname(name: str) -> bytes:
    return attribute(_IFLA_IFNAME, name.encode() + b"\0")


def _name_and_kind(link: bytes) -> tuple[str, bytes]:
    values = dict(attributes(link))
    info = dict(attributes(values.get(_IFLA_LINKINFO, b"")))
    return values[_IFLA_IFNAME].rstrip(b"\0").decode(), info.get(_IFLA_INFO_KIND, b"").rstrip(b"\0")


def _get(netlink: GenericNetlink, name: str) -> InterfaceStats:
    request = device_name(name)
    return decode_dump(_patiently(lambda: netlink.command(CMD_GET_DEVICE, request, dump=True)))


def _patiently(dump: Callable[[], list[bytes]]) -> list[bytes]:
    """A dump that nobody disturbed."""
    for _ in range(_DUMP_ATTEMPTS):
        try:
            return dump()
        except InterruptedError:
            # What is left of it is passed over: the next one has another number.
            continue
    raise OSError(EBUSY, "it is changed all the time")


def _send(netlink: GenericNetlink, name: str, change: InterfaceChange) -> None:
    try:
        messages = list(encode_change(name, change))
    except struct.error as error:
        raise OSError(EINVAL, f"a number is out of range ({error})") from None
    for message in messages:
        netlink.command(CMD_SET_DEVICE, message)


@contextmanager
def _told(what: str, missing: tuple[int, ...] = (ENODEV,)) -> Iterator[None]:
    """OSError from the kernel as DataPlaneError with an explanation."""
    try:
        yield
    except OSError as error:
        if error.errno in missing:
            message = f"{what}: no such WireGuard interface in the kernel"
            raise DataPlaneError(ENODEV, message) from None
        raise _explained(what, error) from None


def _explained(what: str, error: OSError) -> DataPlaneError:
    number = error.errno or EINVAL
    if number == EOPNOTSUPP:
        return DataPlaneError(number, f"{what}: this kernel has no WireGuard")
    if number == EPERM:
        return DataPlaneError(EPERM, f"{what}: not permitted", "run as root")
    if number == EEXIST:
        return DataPlaneError(EEXIST, f"{what}: an interface of this name exists")
    return DataPlaneError(number, f"{what}: {error.strerror or error}")
