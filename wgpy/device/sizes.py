"""How much waits where, and how much one turn of the loop may do.

    host ── TUN queue ── slab ── core ── slab ── socket buffer ── network
            TUN_QUEUE                            SEND_BUFFER

Queues that are too long only make packets wait; too short ones lose bursts. The host's own queues
know best what to drop, so ours are short on the way out, and the host waits when they are full.
The queues of the protocol (staged packets, handshakes) are in wgpy.protocol.constants.
"""

from typing import Final

from wgpy.protocol.batch import MAX_BATCH

# From the network. A turn of the event loop may take some milliseconds (a handshake, a burst in
# the other direction); at 5 Gbit/s 4 MiB arrive in 6.
RECEIVE_BUFFER: Final = 4 << 20
# Packets and super-packets from the host: as many as the kernel's interfaces have, or so few that
# TCP sees how short the way is (wgpy.device.tunqueue says when).
TUN_QUEUE: Final = 1000
SHORT_TUN_QUEUE: Final = 24
# Queues of a process, each as long (wgpy.device.steering). The first packet of a flow has a chance
# of one to this of waiting among streams. And those that the kernel gives a TUN.
QUEUES: Final = 8
MOST_QUEUES: Final = 256
# To the network. Some tens of super-packets between us and the link. More would only wait longer:
# a full socket makes the host wait.
SEND_BUFFER: Final = 1 << 20
# Transmits that wait for room in a socket's buffer; beyond that the host is not read any more.
MAX_WAITING: Final = 1024

# One turn from the host, and one from the network: enough to keep the loop's own cost small, few
# enough that the other direction and the timers wait about a millisecond. Bytes, and reads: the
# host's can be single packets that are sealed together, the network's are batches each. Were there
# fewer of those, the acknowledgements of many peers would wait behind the data that they ask for.
TURN_BYTES: Final = 256 * 1024
TURN_READS: Final = MAX_BATCH
TURN_RECEIVES: Final = MAX_BATCH

# The TUN's own buffer for one packet: 65535 bytes and an IPv6 header that its length omits.
LARGEST_PACKET: Final = 65535 + 40
# Rows for a super-packet and its datagrams' overhead, whatever the size of segments.
SEND_SLAB: Final = 256 * 1024
# A datagram, or the run of them that one receive returns, is no longer than this.
RECEIVE_SIZE: Final = 64 * 1024
# Room for two of the longest runs: work on both together costs less than on one after the other.
RECEIVE_SLAB: Final = 2 * RECEIVE_SIZE

# What one UDP send can carry, with or without segmentation.
LARGEST_SEND: Final = 65507
# The host's super-packets: their size counts link, network and transport headers too.
GSO_HEADERS: Final = 320
LARGEST_GSO: Final = 65536
