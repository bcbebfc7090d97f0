"""`python -m tests.scale.standin LOG NAME...`: lanes whose peers are all alive, and carry nothing.

Real interfaces and the real configuration protocol, with a device behind it that says of every
peer that it has shaken hands and is heard. LOG gets a line of JSON for each change of its peers.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import IO

from tests.uapi.fake import FakeDevice
from tun import Tun
from wgpy.protocol.config import InterfaceChange, InterfaceStats, PeerStats
from wgpy.uapi.listener import listen
from wgpy.uapi.paths import socket_path
from wgpy.uapi.server import UapiServer

# Seconds, as WireGuard renews a session.
_REKEY_AFTER = 120


class Lively(FakeDevice):
    """Who has a keepalive here has one there: it is heard."""

    def __init__(self, name: str, log: IO[str]) -> None:
        super().__init__()
        self._name = name
        self._log = log

    def configure(self, change: InterfaceChange) -> None:
        super().configure(change)
        told = {
            "at": time.time(),
            "lane": self._name,
            "peers": len(self.stats.peers),
            "set": [p.public_key.hex() for p in change.peers if not p.remove][:100],
        }
        self._log.write(json.dumps(told) + "\n")
        self._log.flush()

    def snapshot(self) -> InterfaceStats:
        now = time.time_ns()
        self.stats = replace(self.stats, peers=tuple(_alive(p, now) for p in self.stats.peers))
        return self.stats


def _alive(peer: PeerStats, now: int) -> PeerStats:
    fresh = now - peer.last_handshake_ns < _REKEY_AFTER * 10**9
    return replace(
        peer,
        last_handshake_ns=peer.last_handshake_ns if fresh else now,
        rx_bytes=peer.rx_bytes + (32 if peer.persistent_keepalive else 0),
    )


async def _serve(log: Path, names: list[str]) -> None:
    ended = asyncio.Event()
    interfaces = []
    with log.open("a") as lines:
        for name in names:
            interfaces.append(Tun.open(name))
            server = UapiServer(listen(name), socket_path(name), Lively(name, lines), ended.set)
            await server.start()
        print("ready", flush=True)
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), sys.argv[2:]))
