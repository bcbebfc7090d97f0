"""A pod that never stops talking: a program, run inside the pod.

usage: python -m tests.cluster.chatter ADDRESS...

Until the end of standard input datagrams go to each ADDRESS, and a stream to each that is begun
anew when it breaks; what others send is taken. All of it is full of the marker that the detector
knows. In the end standard output has how much has come: {"datagrams": n, "bytes": n}.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from contextlib import suppress

from tests.cluster.plaintext import MARKER

PORT = 4900
# Seconds between two of each kind, and until a stream is given up.
_EVERY = 0.1
_PATIENCE = 2.0
_WORDS = MARKER * 10


class Chatter(asyncio.DatagramProtocol):
    """Counts what comes."""

    def __init__(self) -> None:
        self.datagrams = 0
        self.bytes = 0

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.datagrams += 1

    def error_received(self, exc: Exception) -> None:
        """Refused on the way: the next one may come through."""

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                self.bytes += len(data)
        writer.close()

    async def stream(self, address: str) -> None:
        """For ever."""
        while True:
            writer = None
            try:
                async with asyncio.timeout(_PATIENCE):
                    _, writer = await asyncio.open_connection(address, PORT)
                while True:
                    writer.write(_WORDS)
                    async with asyncio.timeout(_PATIENCE):
                        await writer.drain()
                    await asyncio.sleep(_EVERY)
            except (OSError, TimeoutError):
                await asyncio.sleep(_EVERY)
            finally:
                if writer is not None:
                    writer.transport.abort()


async def talk(addresses: list[str]) -> Chatter:
    loop = asyncio.get_running_loop()
    chatter = Chatter()
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("::", PORT))
    sock.setblocking(False)
    await loop.create_datagram_endpoint(lambda: chatter, sock=sock)
    server = await asyncio.start_server(chatter.accept, None, PORT)
    streams = [asyncio.create_task(chatter.stream(address)) for address in addresses]
    ended = loop.run_in_executor(None, sys.stdin.read)
    while not ended.done():
        for address in addresses:
            with suppress(OSError):
                sock.sendto(MARKER, (address if ":" in address else f"::ffff:{address}", PORT))
        await asyncio.sleep(_EVERY)
    for stream in streams:
        stream.cancel()
    server.close()
    return chatter


if __name__ == "__main__":
    heard = asyncio.run(talk(sys.argv[1:]))
    print(json.dumps({"datagrams": heard.datagrams, "bytes": heard.bytes}))
