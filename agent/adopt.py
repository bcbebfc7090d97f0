"""What live devices tell: facts for the lanes, and keys that an agent takes over. Pure."""

from agent.keys import KeyRing
from agent.lanefacts import DeviceFacts, PeerFacts
from agent.model import LaneKeys, WireGuardNode
from wgpy.protocol.config import ZERO_KEY, InterfaceStats

_NS = 10**9


def device_facts(stats: InterfaceStats | None, now_ns: int) -> DeviceFacts:
    """`now_ns` is the wall clock that the device notes handshakes in; None: no device."""
    if stats is None:
        return DeviceFacts()
    peers = {
        peer.public_key: PeerFacts(
            # A clock that was set back makes no handshake of the future.
            max(0, now_ns - peer.last_handshake_ns) / _NS if peer.last_handshake_ns else None,
            peer.rx_bytes,
        )
        for peer in stats.peers
    }
    return DeviceFacts(stats.public_key, peers)


def adopt(
    ring: KeyRing,
    published: WireGuardNode | None,
    devices: tuple[InterfaceStats | None, InterfaceStats | None],
) -> tuple[LaneKeys | None, LaneKeys | None]:
    """By lane, the keys that its device has and that were published, now in the ring as well.

    None for a lane that needs new keys: no device, or one whose key nobody knows of.
    """
    lanes = published.lanes if published else (None, None)
    first, second = (_adopt(ring, keys, stats) for keys, stats in zip(lanes, devices, strict=True))
    return first, second


def _adopt(ring: KeyRing, keys: LaneKeys | None, stats: InterfaceStats | None) -> LaneKeys | None:
    if keys is None or stats is None or stats.private_key is None:
        return None
    if stats.public_key != keys.public_key:
        return None
    # An object of other hands, with a box key that is not ours: peers would derive other keys.
    if ring.adopt(stats.private_key, keys.port, keys.epoch) != keys:
        return None
    for peer in stats.peers:
        # Only a handshake says that the other end has the same.
        if peer.last_handshake_ns and peer.preshared_key != ZERO_KEY:
            ring.adopt_psk(keys.public_key, peer.public_key, peer.preshared_key)
    return keys
