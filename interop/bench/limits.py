"""How far the limit is: the same with a cipher that does nothing, and without any tunnel."""

from __future__ import annotations

from pathlib import Path

from interop.counterparts.base import Implementation, Running
from interop.counterparts.userspace import Userspace
from interop.netns import Lab, Namespace, add_address
from interop.tunnel import End, bare_pair

NO_TUNNEL = "no tunnel"


class _NoTunnel(Implementation):
    """Two namespaces and the link between them."""

    name = NO_TUNNEL

    def version(self) -> str:
        return "-"

    def start(self, interface: str, namespace: Namespace, log: Path) -> Running:
        raise AssertionError("there is no interface to start")


class _BareEnd(End):
    """Its inner address is its outer one."""

    def inner(self, version: int = 4) -> str:
        return self.outer(version)


def limits(command: str) -> list[tuple[str, Implementation]]:
    """What is measured beside real tunnels; `command` is the implementation under test.

    Only a command that is `PYTHON -m MODULE` can be run without a cipher.
    """
    found: list[tuple[str, Implementation]] = [(NO_TUNNEL, _NoTunnel())]
    python, flag, *module = command.split()
    if flag == "-m" and module:
        script = Path(__file__).with_name("nullcipher.py")
        found.insert(0, ("null cipher", Userspace("null", f"{python} {script} {' '.join(module)}")))
    return found


def is_no_tunnel(implementation: Implementation) -> bool:
    return implementation.name == NO_TUNNEL


def bare_ends(lab: Lab) -> tuple[End, End]:
    """Two ends on one link that speak to each other's outer addresses."""
    nothing = _NoTunnel()
    a, b = bare_pair(lab, nothing, nothing, end=_BareEnd)
    for end in (a, b):
        for version, prefix in ((4, 24), (6, 64)):
            add_address(end.namespace, "eth0", f"{end.outer(version)}/{prefix}")
    return a, b
