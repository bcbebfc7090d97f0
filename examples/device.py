"""A device in an asyncio program of its own: two minutes of `wg0`, or as long as it exists.

Run as root: python examples/device.py [NAME [SECONDS]]
"""

import asyncio
import os
import sys

import uvloop

from wgpy import Device
from wgpy.protocol.config import InterfaceChange, Secret


async def main(name: str, seconds: float) -> None:
    with Device.open(name) as device:
        key = Secret(os.urandom(32))
        device.configure(InterfaceChange(private_key=key, listen_port=0))
        print(f"{device.name} is there: give it an address, and set it up with `ip link`")
        try:
            await asyncio.wait_for(device.wait_closed(), seconds)
            print("somebody deleted the interface")
        except TimeoutError:
            print("time is over; drops:", device.snapshot().drops)


if __name__ == "__main__":
    words = sys.argv[1:]
    uvloop.run(main(words[0] if words else "wg0", float(words[1]) if words[1:] else 120.0))
