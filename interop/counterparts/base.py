"""What the suite asks of an implementation: appear as an interface, go away, say who you are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from interop.keys import KeyPair
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


class Counterpart(ABC):
    """A WireGuard implementation with a name and a version."""

    name: str

    @abstractmethod
    def version(self) -> str:
        """What is really being run. Fetches what is missing.

        :raises Unavailable: it cannot be had.
        """


class Implementation(Counterpart):
    """One that appears as a network interface."""

    logs_keys = False
    """Whether it writes the keys of its sessions to a file beside its log."""

    @abstractmethod
    def start(self, interface: str, namespace: Namespace, log: Path) -> Running:
        """Make `interface` in `namespace`, ready for `wg set`; `log` takes what it prints.

        :raises Unavailable: it cannot be had.
        :raises ScenarioFailed: it did not come up.
        """


class Stack(Counterpart):
    """One that makes no interface and brings its own TCP/IP stack; it only responds."""

    @abstractmethod
    def serve_echo(
        self, namespace: Namespace, address: str, port: int, keys: KeyPair, peer: str, log: Path
    ) -> None:
        """Listen at the outer `address` and `port` for the `peer` with this public key.

        Whatever arrives on any TCP connection through the tunnel is sent back. It runs until
        the namespace is closed.

        :raises Unavailable: it cannot be had.
        :raises ScenarioFailed: it did not come up.
        """
