"""TUN interfaces of Linux with all their offloads, usable alone.

tun = Tun.open("tun%d")
header, packet = memoryview(bytearray(HEADER_LEN)), memoryview(bytearray(65575))
size = tun.read(header, packet)             # perhaps a super-packet of many segments
split = plan(header, packet[:size])
rows = numpy.zeros((split.count, 2048), numpy.uint8)
split.fill(rows, 0, split.count)            # one inner packet in each row
for group in coalesce(rows, lengths, tun.offloads):
    tun.write(group.buffers)                # and back, joined again
"""

from tun.coalesce import Group, coalesce
from tun.errors import BadSuperPacket
from tun.link import LinkMonitor, LinkState
from tun.linux import Offloads, Tun
from tun.split import SplitPlan, finish_checksum, plan
from tun.virtio import HEADER_LEN

__all__ = [
    "HEADER_LEN",
    "BadSuperPacket",
    "Group",
    "LinkMonitor",
    "LinkState",
    "Offloads",
    "SplitPlan",
    "Tun",
    "coalesce",
    "finish_checksum",
    "plan",
]
