"""What the suite asks of an implementation: appear as an interface, go away, say who you are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from interop.netns import Namespace


class Unavailable(RuntimeError):
    """This implementation cannot be had here; the message is the reason."""


class Running(ABC):
    """An interface that an implementation made."""

    @abstractmethod
    def stop(self) -> None:
        """Take the interface away the orderly way; nothing to do if it is gone already."""

    @abstractmethod
    def crash(self) -> None:
        """Take it away without a chance to say goodbye."""


class Implementation(ABC):
    """A WireGuard implementation under test, or one that it is tested against."""

    name: str
    in_guest = False
    """Whether it needs the kernel of a virtual machine."""
    has_interface = True
    """Whether it appears as a network interface; else only `echo` scenarios apply."""

    @abstractmethod
    def version(self) -> str:
        """What is really being run. Fetches what is missing.

        :raises Unavailable: it cannot be had.
        """

    @abstractmethod
    def start(self, interface: str, namespace: Namespace, log: Path) -> Running:
        """Make `interface` in `namespace`, ready for `wg set`; `log` takes what it prints.

        :raises Unavailable: it cannot be had.
        :raises ScenarioFailed: it did not come up.
        """
