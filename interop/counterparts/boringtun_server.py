"""Started by `boringtun.py` with an interpreter that has mitmproxy_rs; imports nothing of ours.

Standard input: own private key, then the peer's public key. Arguments: address, port.
Echoes every TCP connection that comes through the tunnel, whatever its destination.
"""

import asyncio
import sys

import mitmproxy_rs.wireguard  # type: ignore[import-not-found]


async def echo(stream: mitmproxy_rs.Stream) -> None:
    while data := await stream.read(1 << 16):
        stream.write(data)
        await stream.drain()
    stream.close()


async def ignore(stream: mitmproxy_rs.Stream) -> None:
    stream.close()


async def main() -> None:
    private, peer = sys.stdin.read().split()
    server = await mitmproxy_rs.wireguard.start_wireguard_server(
        sys.argv[1], int(sys.argv[2]), private, [peer], echo, ignore
    )
    print("ready", flush=True)
    await server.wait_closed()


asyncio.run(main())
