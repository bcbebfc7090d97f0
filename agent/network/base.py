"""The shape of a thing that is kept in order, its error, and the names that make things ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from errno import EACCES, EAFNOSUPPORT, EOPNOTSUPP, EPERM, EROFS
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol, TypeAlias, TypeVar

from pyroute2.netlink.exceptions import NetlinkError

from agent.model import few

Address: TypeAlias = IPv4Address | IPv6Address

# On every route and rule of ours (rtm_protocol).
PROTOCOL = 157
# The table that pods ask first, the priority of the rule that sends them there.
TABLE = 5157
RULE_PRIORITY = 5157
POD_BRIDGE = "wgpy-pods"

Desired = TypeVar("Desired", contravariant=True)


class NetworkError(Exception):
    """Something could not be put in order; the rest of its resource was, as far as it goes.

    `what` names the thing and the reason, `advice` what to do, `changed` what was done meanwhile.
    """

    def __init__(self, what: str, advice: str = "", changed: tuple[str, ...] = ()) -> None:
        super().__init__(what)
        self.what = what
        self.advice = advice
        self.changed = changed

    def __str__(self) -> str:
        return f"{self.what}; {self.advice}" if self.advice else self.what


class Resource(Protocol[Desired]):
    """One kind of thing on this node."""

    name: str

    def reconcile(self, desired: Desired) -> list[str]:
        """Make it as desired, touching only what differs; a sentence for each change.

        NetworkError if part of it could not be done: the other parts were.
        """

    def remove(self) -> None:
        """Leave the host as it was. NetworkError."""


class Report:
    """What one pass over a resource has changed, and what it could not do."""

    def __init__(self) -> None:
        self.changed: list[str] = []
        self._failed: list[NetworkError] = []

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """A part whose failure does not stop the others."""
        try:
            yield
        except NetworkError as error:
            self._failed.append(error)
        except (OSError, NetlinkError) as error:
            self._failed.append(explained(what, error))

    def end(self) -> list[str]:
        """What was changed. NetworkError if anything failed, with a few such things in its text."""
        if not self._failed:
            return self.changed
        what = few(list(dict.fromkeys(error.what for error in self._failed)))
        advice = few(list(dict.fromkeys(e.advice for e in self._failed if e.advice)))
        raise NetworkError(what, advice, tuple(self.changed))


def explained(what: str, error: OSError | NetlinkError) -> NetworkError:
    """The kernel's refusal of `what` as a NetworkError."""
    if isinstance(error, NetlinkError):
        number, reason = int(error.code), str(error.args[1])
    else:
        number, reason = error.errno or 0, error.strerror or str(error)
    return NetworkError(f"{what}: {reason}", _advice(what, number))


def _advice(what: str, number: int) -> str:
    if number == EPERM:
        return "give the agent CAP_NET_ADMIN"
    # How the kernel says that a family is switched off.
    if ":" in what.split()[-1] and number in (EACCES, EAFNOSUPPORT, EOPNOTSUPP):
        return "enable IPv6 on this host or take the IPv6 ranges from the cluster"
    if number == EROFS:
        return "mount the host's /proc/sys/net writable"
    return ""
