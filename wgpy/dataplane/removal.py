"""Take single allowed IPs away from interfaces that cannot (Linux and wireguard-go before 2025)."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from errno import EINVAL

from wgpy.protocol.config import (
    AllowedIPChange,
    InterfaceChange,
    InterfaceStats,
    Network,
    PeerChange,
)


def set_anywhere(
    send: Callable[[InterfaceChange], None],
    get: Callable[[], InterfaceStats],
    change: InterfaceChange,
) -> None:
    """Send `change`, and again in other words where single prefixes cannot be taken away.

    OSError from `send` and `get`. What had been applied before the refusal is applied twice,
    which is harmless.
    """
    try:
        send(change)
    except OSError as error:
        if error.errno != EINVAL or not has_removals(change):
            raise
        send(without_removals(get(), change))


def has_removals(change: InterfaceChange) -> bool:
    """Whether `change` takes a single allowed IP away."""
    return any(allowed.remove for peer in change.peers for allowed in peer.allowed_ips)


def without_removals(current: InterfaceStats, change: InterfaceChange) -> InterfaceChange:
    """`change` in other words: what is to go moves to a peer made for it, and goes with that peer.

    A prefix has one owner, so the move takes it away without a gap for the peer's other prefixes,
    which replacing them all would make.
    """
    owners = {network: peer.public_key for peer in current.peers for network in peer.allowed_ips}
    if change.replace_peers:
        owners.clear()
    return replace(change, peers=tuple(_reworded(owners, change.peers)))


def _reworded(owners: dict[Network, bytes], peers: tuple[PeerChange, ...]) -> Iterator[PeerChange]:
    for peer in peers:
        if peer.replace_allowed_ips:
            for network in [n for n, owner in owners.items() if owner == peer.public_key]:
                del owners[network]
        added: dict[Network, None] = {}
        taken: dict[Network, None] = {}
        for allowed in peer.allowed_ips:
            network = allowed.network
            if not allowed.remove:
                owners[network] = peer.public_key
                added[network] = None
                taken.pop(network, None)
            elif owners.get(network) == peer.public_key:
                del owners[network]
                taken[network] = None
        yield replace(peer, allowed_ips=tuple(map(AllowedIPChange, added)))
        if taken:
            # Nobody has this key: it lives for the time of two messages.
            collector = os.urandom(32)
            yield PeerChange(collector, allowed_ips=tuple(map(AllowedIPChange, taken)))
            yield PeerChange(collector, remove=True)
