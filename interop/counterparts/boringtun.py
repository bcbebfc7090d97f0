"""boringtun, as the PyPI package mitmproxy_rs carries it: a responder with a TCP/IP stack behind.

It makes no interface, so only the scenarios made for such a stack apply to it.
"""

from __future__ import annotations

from pathlib import Path

from interop.cache import CannotFetch, venv
from interop.counterparts.base import Stack, Unavailable
from interop.keys import KeyPair
from interop.netns import Namespace
from interop.shell import run, wait_until

_PACKAGE = "mitmproxy_rs"
_SERVER = Path(__file__).with_name("boringtun_server.py")


class Boringtun(Stack):
    name = "boringtun"

    def version(self) -> str:
        words = f"import importlib.metadata as m; print(m.version('{_PACKAGE}'))"
        return f"{_PACKAGE} {run(self._python(), '-c', words).strip()}"

    def serve_echo(
        self, namespace: Namespace, address: str, port: int, keys: KeyPair, peer: str, log: Path
    ) -> None:
        with log.open("ab") as output:
            namespace.start(
                *(self._python(), str(_SERVER), address, str(port)),
                output=output,
                stdin=f"{keys.private}\n{peer}\n",
            )
        wait_until("boringtun is ready", lambda: "ready" in log.read_text(), 20)

    def _python(self) -> str:
        try:
            return str(venv(_PACKAGE) / "python")
        except CannotFetch as error:
            raise Unavailable(str(error)) from None
