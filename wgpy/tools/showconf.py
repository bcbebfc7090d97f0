"""`wgpy showconf`: an interface as a file that `wgpy setconf` takes."""

from collections.abc import Iterator

from wgpy.protocol.config import InterfaceStats, PeerStats
from wgpy.tools.keys import key_text
from wgpy.tools.values import endpoint_text, network_text


def config_text(stats: InterfaceStats) -> str:
    """The text of `wg showconf`, private and preshared keys included."""
    peers = ("".join(_peer_lines(peer)) for peer in stats.peers)
    return "".join(_interface_lines(stats)) + "\n" + "\n".join(peers)


def _interface_lines(stats: InterfaceStats) -> Iterator[str]:
    yield "[Interface]\n"
    if stats.listen_port:
        yield f"ListenPort = {stats.listen_port}\n"
    if stats.fwmark:
        yield f"FwMark = {stats.fwmark:#x}\n"
    if stats.private_key is not None:
        yield f"PrivateKey = {key_text(stats.private_key)}\n"


def _peer_lines(peer: PeerStats) -> Iterator[str]:
    yield "[Peer]\n"
    yield f"PublicKey = {key_text(peer.public_key)}\n"
    if any(peer.preshared_key):
        yield f"PresharedKey = {key_text(peer.preshared_key)}\n"
    if peer.allowed_ips:
        yield f"AllowedIPs = {', '.join(map(network_text, peer.allowed_ips))}\n"
    if peer.endpoint is not None:
        yield f"Endpoint = {endpoint_text(peer.endpoint)}\n"
    if peer.persistent_keepalive:
        yield f"PersistentKeepalive = {peer.persistent_keepalive}\n"
