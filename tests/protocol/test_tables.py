"""Cryptokey routing, the replay window and the table of indices, against naive references."""

import itertools
import random
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from wgpy.protocol.allowedips import AllowedIPs
from wgpy.protocol.config import Network
from wgpy.protocol.constants import REJECT_AFTER_MESSAGES
from wgpy.protocol.indextable import IndexTable
from wgpy.protocol.replay import ReplayWindow

# Few bits, so that prefixes meet each other.
_V4 = st.builds(
    lambda bits, length: IPv4Network((bits << 24, length), strict=False),
    st.integers(0, 255),
    st.integers(0, 32),
)
_V6 = st.builds(
    lambda bits, length: IPv6Network((bits << 120, length), strict=False),
    st.integers(0, 255),
    st.integers(0, 128),
)
_NETWORKS: st.SearchStrategy[Network] = st.one_of(_V4, _V6)
_PEERS = st.sampled_from("abc")


class CryptokeyRouting(RuleBasedStateMachine):
    """Any order of changes leaves the table in agreement with a dictionary of prefixes."""

    def __init__(self) -> None:
        super().__init__()
        self.table: AllowedIPs[str] = AllowedIPs()
        self.reference: dict[Network, str] = {}

    @rule(network=_NETWORKS, peer=_PEERS)
    def insert(self, network: Network, peer: str) -> None:
        self.table.insert(network, peer)
        self.reference[network] = peer

    @rule(network=_NETWORKS, peer=_PEERS)
    def remove(self, network: Network, peer: str) -> None:
        owned = self.reference.get(network) == peer
        assert self.table.remove(network, peer) is owned
        if owned:
            del self.reference[network]

    @rule(peer=_PEERS)
    def remove_peer(self, peer: str) -> None:
        self.table.remove_peer(peer)
        self.reference = {n: p for n, p in self.reference.items() if p != peer}

    @rule(first=st.integers(0, 255), version=st.sampled_from([4, 6]))
    def look_up(self, first: int, version: int) -> None:
        address = ip_address(bytes([first]) + bytes(3 if version == 4 else 15))
        owners = [n for n in self.reference if n.version == version and address in n]
        expected = max(owners, key=lambda n: n.prefixlen, default=None)
        found = self.table.lookup(address.packed)
        assert found == (None if expected is None else self.reference[expected])

    @invariant()
    def each_peer_has_its_networks(self) -> None:
        for peer in "abc":
            expected = {n for n, p in self.reference.items() if p == peer}
            assert set(self.table.networks(peer)) == expected


TestCryptokeyRouting = CryptokeyRouting.TestCase


def test_a_search_among_100_000_prefixes_asks_once_for_each_length() -> None:
    table: AllowedIPs[int] = AllowedIPs()
    chance = random.Random(1)
    for k in range(100_000):
        table.insert(IPv4Network((chance.getrandbits(32), 8 + k % 25), strict=False), k)
    assert len(table._search[32]) == 25
    for _ in range(1000):
        address = chance.randbytes(4)
        owner = table.lookup(address)
        if owner is not None:
            assert any(ip_address(address) in n for n in table.networks(owner))


# The replay window.


class _Reference:
    """RFC 6479 by its effect: all counters ever seen, and a window of 8128."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.newest = -1

    def accept(self, counter: int) -> bool:
        if counter >= 2**64 - 8128 - 2 or counter in self.seen or counter <= self.newest - 8128:
            return False
        self.seen.add(counter)
        self.newest = max(self.newest, counter)
        return True


_COUNTERS = st.one_of(
    st.integers(0, 200),
    st.integers(7900, 8400),
    st.integers(0, 40_000),
    st.integers(REJECT_AFTER_MESSAGES - 5, 2**64 - 1),
)


@settings(max_examples=300)
@given(st.lists(_COUNTERS, max_size=200))
def test_the_window_accepts_what_is_new_and_not_too_old(counters: list[int]) -> None:
    window, reference = ReplayWindow(), _Reference()
    for counter in counters:
        assert window.check_and_set(counter) is reference.accept(counter), counter


@settings(max_examples=300)
@given(
    st.lists(
        st.one_of(
            st.lists(_COUNTERS, min_size=1, max_size=40),
            st.builds(
                lambda first, count: list(range(first, first + count)),
                st.integers(0, 20_000),
                st.integers(1, 128),
            ),
        ),
        max_size=12,
    )
)
def test_a_batch_of_counters_ends_as_they_would_alone(batches: list[list[int]]) -> None:
    together, alone = ReplayWindow(), ReplayWindow()
    for batch in batches:
        accepted = together.accept_batch(np.array(batch, np.uint64)).tolist()
        assert accepted == [alone.check_and_set(counter) for counter in batch]


def test_the_window_is_exactly_8128_wide() -> None:
    for distance, fresh in ((8127, True), (8128, False)):
        window = ReplayWindow()
        assert window.check_and_set(20_000)
        assert window.check_and_set(20_000 - distance) is fresh


@pytest.mark.parametrize("counter", [2**64 - 1, REJECT_AFTER_MESSAGES])
def test_counters_beyond_the_limit_are_refused_and_move_nothing(counter: int) -> None:
    window = ReplayWindow()
    assert not window.check_and_set(counter)
    assert window.check_and_set(0)
    assert window.check_and_set(REJECT_AFTER_MESSAGES - 1)


# Indices.


def test_indices_are_random_and_never_used_twice_at_once() -> None:
    numbers = itertools.chain([7, 7, 7, 9], itertools.count(100))
    table: IndexTable[str] = IndexTable()

    def chance(count: int) -> bytes:
        return next(numbers).to_bytes(count, "little")

    assert table.allocate(chance, "a") == 7
    assert table.allocate(chance, "b") == 9
    assert (table.get(7), table.get(9), table.get(8)) == ("a", "b", None)
    table.replace(7, "c")
    assert table.get(7) == "c"
    table.remove(7)
    table.remove(7)
    assert table.get(7) is None


def test_a_network_is_kept_as_it_was_given() -> None:
    table: AllowedIPs[str] = AllowedIPs()
    for text in ("10.0.0.0/8", "fd00::/64", "0.0.0.0/0", "::/0", "192.0.2.1/32"):
        table.insert(ip_network(text), "a")
    assert [str(n) for n in table.networks("a")] == [
        "10.0.0.0/8",
        "fd00::/64",
        "0.0.0.0/0",
        "::/0",
        "192.0.2.1/32",
    ]
