"""diff: the smallest change from a state to a configuration; and removals in other words."""

from dataclasses import replace
from errno import EINVAL
from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.uapi.fake import FakeDevice, endpoints, ports, secrets
from wgpy.dataplane.diff import diff
from wgpy.dataplane.removal import has_removals, set_anywhere, without_removals
from wgpy.protocol.config import (
    ZERO_KEY,
    AllowedIPChange,
    Endpoint,
    InterfaceChange,
    InterfaceStats,
    Network,
    PeerChange,
    PeerStats,
    Secret,
)

# Few of each, so that peers meet and prefixes move.
KEYS = [bytes([number]) * 32 for number in range(1, 5)]
NETWORKS: list[Network] = [ip_network(f"10.0.{number}.0/24") for number in range(6)]
A, B = KEYS[:2]
N0, N1 = NETWORKS[:2]


class Device(FakeDevice):
    """A fake in which a prefix has one owner, as in every real interface."""

    def configure(self, change: InterfaceChange) -> None:
        for peer in change.peers:
            for allowed in peer.allowed_ips:
                if not allowed.remove:
                    self._take_from_others(peer.public_key, allowed.network)
            super().configure(replace(change, peers=(peer,)))
            change = InterfaceChange()
        super().configure(change)

    def _take_from_others(self, key: bytes, network: Network) -> None:
        self.stats = replace(
            self.stats,
            peers=tuple(
                peer
                if peer.public_key == key
                else replace(peer, allowed_ips=tuple(n for n in peer.allowed_ips if n != network))
                for peer in self.stats.peers
            ),
        )


def add(network: Network) -> AllowedIPChange:
    return AllowedIPChange(network)


def take(network: Network) -> AllowedIPChange:
    return AllowedIPChange(network, remove=True)


def essence(stats: InterfaceStats) -> object:
    """A state without the orders that mean nothing."""
    peers = {
        peer.public_key: replace(peer, allowed_ips=tuple(sorted(peer.allowed_ips, key=str)))
        for peer in stats.peers
    }
    return replace(stats, peers=()), peers


peers_of_configurations = st.builds(
    PeerChange,
    st.sampled_from(KEYS),
    preshared_key=st.none() | secrets,
    endpoint=st.none() | endpoints,
    persistent_keepalive=st.none() | ports,
    replace_allowed_ips=st.just(True),
    allowed_ips=st.lists(st.sampled_from(NETWORKS).map(add), max_size=4).map(tuple),
)
configurations = st.builds(
    InterfaceChange,
    private_key=secrets,
    listen_port=st.integers(1, 65535),
    fwmark=st.integers(0, 2**32 - 1),
    replace_peers=st.just(True),
    peers=st.lists(peers_of_configurations, max_size=4, unique_by=lambda p: p.public_key).map(
        tuple
    ),
)
any_changes = st.builds(
    InterfaceChange,
    replace_peers=st.booleans(),
    peers=st.lists(
        st.builds(
            PeerChange,
            st.sampled_from(KEYS),
            replace_allowed_ips=st.booleans(),
            allowed_ips=st.lists(
                st.builds(AllowedIPChange, st.sampled_from(NETWORKS), st.booleans()), max_size=6
            ).map(tuple),
        ),
        max_size=4,
    ).map(tuple),
)


@given(configurations, configurations)
@settings(max_examples=300)
def test_the_difference_leads_where_a_whole_replacement_leads(
    before: InterfaceChange, desired: InterfaceChange
) -> None:
    device, reference = Device(), Device()
    device.configure(before)
    old_endpoints = {peer.public_key: peer.endpoint for peer in device.stats.peers}
    device.configure(diff(device.stats, desired))
    reference.configure(desired)
    kept = tuple(
        replace(peer, endpoint=peer.endpoint or old_endpoints.get(peer.public_key))
        for peer in reference.stats.peers
    )
    assert essence(device.stats) == essence(replace(reference.stats, peers=kept))
    assert diff(device.stats, desired) == InterfaceChange()


def test_what_is_already_so_is_not_touched() -> None:
    current = InterfaceStats(
        Secret(A),
        listen_port=5,
        fwmark=1,
        peers=(PeerStats(A, endpoint=Endpoint("192.0.2.1", 5), allowed_ips=(N0, N1)),),
    )
    desired = InterfaceChange(
        Secret(A), 5, 1, True, (PeerChange(A, allowed_ips=(add(N1), add(N0))),)
    )
    assert diff(current, desired) == InterfaceChange()


def test_listen_port_zero_is_any_port_and_none_keeps_what_there_is() -> None:
    current = InterfaceStats(Secret(A), listen_port=5, fwmark=7)
    assert diff(current, InterfaceChange(listen_port=0)) == InterfaceChange()
    assert diff(current, InterfaceChange(listen_port=6)) == InterfaceChange(listen_port=6)
    assert diff(current, InterfaceChange(fwmark=0)) == InterfaceChange(fwmark=0)
    assert diff(current, InterfaceChange(private_key=ZERO_KEY)).private_key == ZERO_KEY
    assert diff(InterfaceStats(), InterfaceChange(private_key=ZERO_KEY)) == InterfaceChange()


def test_what_is_left_out_of_a_peer_is_taken_away_but_its_endpoint_stays() -> None:
    peer = PeerStats(A, Secret(B), Endpoint("192.0.2.1", 5), 0, 0, 0, 25, (N0, N1))
    change = diff(InterfaceStats(peers=(peer,)), InterfaceChange(peers=(PeerChange(A),)))
    assert change.peers == (
        PeerChange(
            A, preshared_key=ZERO_KEY, persistent_keepalive=0, allowed_ips=(take(N0), take(N1))
        ),
    )


def test_a_moving_prefix_has_an_owner_all_the_time() -> None:
    current = InterfaceStats(peers=(PeerStats(A, allowed_ips=(N0,)), PeerStats(B)))
    stays = InterfaceChange(peers=(PeerChange(A), PeerChange(B, allowed_ips=(add(N0),))))
    assert diff(current, stays).peers == (PeerChange(B, allowed_ips=(add(N0),)),)
    goes = InterfaceChange(peers=(PeerChange(B, allowed_ips=(add(N0),)),))
    assert diff(current, goes).peers == (
        PeerChange(B, allowed_ips=(add(N0),)),
        PeerChange(A, remove=True),
    )


@given(configurations, any_changes)
@settings(max_examples=300)
def test_removals_in_other_words_lead_to_the_same_state(
    before: InterfaceChange, change: InterfaceChange
) -> None:
    device, reference = Device(), Device()
    for each in (device, reference):
        each.configure(before)
    reworded = without_removals(device.stats, change)
    assert not has_removals(reworded)
    device.configure(reworded)
    # One by one, as an interface takes them.
    for part in _one_by_one(change):
        reference.configure(part)
    assert essence(device.stats) == essence(reference.stats)


def _one_by_one(change: InterfaceChange) -> list[InterfaceChange]:
    found = [replace(change, peers=())]
    for peer in change.peers:
        found.append(InterfaceChange(peers=(replace(peer, allowed_ips=()),)))
        found += [
            InterfaceChange(peers=(PeerChange(peer.public_key, allowed_ips=(allowed,)),))
            for allowed in peer.allowed_ips
        ]
    return found


class Older(Device):
    """Refuses to take a single prefix away, with what came before applied."""

    def configure(self, change: InterfaceChange) -> None:
        for part in _one_by_one(change):
            if has_removals(part):
                raise OSError(EINVAL, "Invalid argument")
            super().configure(part)


def test_an_older_interface_reaches_the_same_state() -> None:
    older = Older()
    older.configure(InterfaceChange(peers=(PeerChange(A, allowed_ips=(add(N0), add(N1))),)))
    change = InterfaceChange(fwmark=3, peers=(PeerChange(A, allowed_ips=(take(N0),)),))
    set_anywhere(older.configure, older.snapshot, change)
    assert older.stats == InterfaceStats(fwmark=3, peers=(PeerStats(A, allowed_ips=(N1,)),))


def test_other_refusals_are_raised_at_once() -> None:
    calls: list[InterfaceChange] = []

    def refuse(change: InterfaceChange) -> None:
        calls.append(change)
        raise OSError(EINVAL, "Invalid argument")

    with pytest.raises(OSError):
        set_anywhere(refuse, InterfaceStats, InterfaceChange(peers=(PeerChange(A),)))
    assert len(calls) == 1
