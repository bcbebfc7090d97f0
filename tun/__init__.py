"""TUN interfaces of Linux with all their offloads, usable alone.

This shows what the host sends, one line a packet, however large it hands it over (as root;
then `ip address add 10.9.0.1/24 dev tun0`, `ip link set tun0 up`, `ping 10.9.0.2`):

    import numpy
    from select import select
    from tun import HEADER_LEN, Tun, finish_checksum, plan

    tun = Tun.open("tun%d")
    header, packet = memoryview(bytearray(HEADER_LEN)), memoryview(bytearray(65575))
    while select([tun.fd], [], []):
        size = tun.read(header, packet)
        if header[1] == 0:
            finish_checksum(header, packet[:size])
            print("packet", packet[:size].hex())
            continue
        split = plan(header, packet[:size])
        rows = numpy.zeros((split.count, split.segment_size), numpy.uint8)
        split.fill(rows, 0, split.count)
        for row in rows[:-1]:
            print("segment", row.tobytes().hex())
        print("segment", rows[-1, : split.last_size].tobytes().hex())

In the other direction, `coalesce(rows, lengths, tun.offloads)` makes groups for `tun.write`.
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
