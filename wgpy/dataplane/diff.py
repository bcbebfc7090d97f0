"""From what is to what should be, touching nothing else (the rule of `wg syncconf`)."""

from wgpy.protocol.config import (
    ZERO_KEY,
    AllowedIPChange,
    InterfaceChange,
    InterfaceStats,
    Network,
    PeerChange,
    PeerStats,
)


def diff(current: InterfaceStats, desired: InterfaceChange) -> InterfaceChange:
    """The smallest change that turns `current` into `desired`.

    `desired` is a whole configuration: peers it does not name are removed, and allowed IPs,
    preshared key and keepalive it does not give are taken away; its `update_only` and `replace_*`
    flags say nothing here. Interface values that are None, and endpoints that are None, stay as
    they are; listen port 0 is any port. Live sessions of peers that stay are untouched, and an
    allowed IP that moves from peer to peer has an owner all the time.
    """
    known = {peer.public_key: peer for peer in current.peers}
    wanted = {peer.public_key: peer for peer in desired.peers if not peer.remove}
    # Of thousands nearly all are so already, and to ask for each prefix whose it is takes long.
    other = [peer for peer in wanted.values() if not _is_so(known.get(peer.public_key), peer)]
    among = wanted.values() if other else ()
    owners = {network: peer.public_key for peer in among for network in _networks(peer)}
    changes = [
        change
        for peer in other
        if (change := _peer_change(known.get(peer.public_key), peer, owners)) is not None
    ]
    # Last, so that what others take over from them is never without an owner.
    changes += [PeerChange(key, remove=True) for key in known if key not in wanted]
    private_key, port = desired.private_key, desired.listen_port
    return InterfaceChange(
        private_key=None if private_key == (current.private_key or ZERO_KEY) else private_key,
        listen_port=None if port == current.listen_port or port == 0 else port,
        fwmark=None if desired.fwmark == current.fwmark else desired.fwmark,
        peers=tuple(changes),
    )


def _is_so(known: PeerStats | None, wanted: PeerChange) -> bool:
    """Whether nothing is to be done, as far as can be told without the other peers.

    A prefix has one owner on a device: of two who are to have it, one is not so.
    """
    return (
        known is not None
        and (wanted.preshared_key or ZERO_KEY) == known.preshared_key
        and wanted.endpoint in (None, known.endpoint)
        and (wanted.persistent_keepalive or 0) == known.persistent_keepalive
        and len(wanted.allowed_ips) == len(known.allowed_ips)
        and all(
            not allowed.remove and allowed.network == network
            for allowed, network in zip(wanted.allowed_ips, known.allowed_ips, strict=True)
        )
    )


def _networks(peer: PeerChange) -> list[Network]:
    """The allowed IPs that are left in the end."""
    last = {allowed.network: allowed.remove for allowed in peer.allowed_ips}
    return [network for network, removed in last.items() if not removed]


def _peer_change(
    known: PeerStats | None, wanted: PeerChange, owners: dict[Network, bytes]
) -> PeerChange | None:
    """What makes one peer as it should be; None if it is so already."""
    key = wanted.public_key
    before = known or PeerStats(key)
    preshared_key = wanted.preshared_key or ZERO_KEY
    keepalive = wanted.persistent_keepalive or 0
    has = set(before.allowed_ips)
    gets = [n for n in _networks(wanted) if owners[n] == key and n not in has]
    added = [AllowedIPChange(n) for n in gets]
    # What another peer gets leaves this one by that.
    removed = [AllowedIPChange(n, remove=True) for n in before.allowed_ips if n not in owners]
    change = PeerChange(
        key,
        preshared_key=None if preshared_key == before.preshared_key else preshared_key,
        endpoint=None if wanted.endpoint == before.endpoint else wanted.endpoint,
        persistent_keepalive=None if keepalive == before.persistent_keepalive else keepalive,
        allowed_ips=(*added, *removed),
    )
    return None if known is not None and change == PeerChange(key) else change
