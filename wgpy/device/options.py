"""What a device may use of its kernel."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeviceOptions:
    """Kernel features that are used where the kernel has them (False never uses one); how many
    processes there are; and where the keys of all sessions are written, if anywhere.
    """

    # Checksum and TCP segmentation offloads of the TUN.
    tun_offloads: bool = True
    # UDP segmentation offload of the TUN (Linux 6.2).
    uso: bool = True
    # Many datagrams in one sendmsg, cut by the kernel (UDP_SEGMENT, Linux 4.18).
    udp_gso: bool = True
    # Many datagrams from one recvmsg, joined by the kernel (UDP_GRO, Linux 5.0).
    udp_gro: bool = True
    # Where they cannot be joined, many datagrams in one call (recvmmsg, sendmmsg, Linux 3.0).
    recvmmsg: bool = True
    sendmmsg: bool = True
    # The cipher for a batch in one call, by a library that the host may have (libipsec-mb1).
    multibuffer: bool = True
    # Processes that carry packets.
    workers: int = 1
    # A file for dissectors; whoever reads it reads all traffic.
    key_log: str | None = None
