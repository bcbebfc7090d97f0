"""boringtun, as the PyPI package mitmproxy_rs carries it: a responder with a TCP/IP stack behind.

It makes no interface, so the scenarios between two interfaces do not apply to it.
"""

from __future__ import annotations

from pathlib import Path

from interop.cache import CannotFetch, venv
from interop.counterparts.base import Implementation, Running, Unavailable
from interop.netns import Namespace
from interop.shell import run

_PACKAGE = "mitmproxy_rs"


class Boringtun(Implementation):
    name = "boringtun"
    has_interface = False

    def python(self) -> str:
        """The interpreter that can import it.

        :raises Unavailable: it cannot be had.
        """
        try:
            return str(venv(_PACKAGE) / "python")
        except CannotFetch as error:
            raise Unavailable(str(error)) from None

    def version(self) -> str:
        words = f"import importlib.metadata as m; print(m.version('{_PACKAGE}'))"
        return f"{_PACKAGE} {run(self.python(), '-c', words).strip()}"

    def start(self, interface: str, namespace: Namespace, log: Path) -> Running:
        raise Unavailable("it makes no interface")
