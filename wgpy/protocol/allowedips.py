"""Cryptokey routing (section 2): which peer owns an inner address, by longest prefix."""

from collections.abc import Iterator
from typing import Generic, TypeVar

from wgpy.protocol.config import Network

P = TypeVar("P")

_CACHE = 4096


class AllowedIPs(Generic[P]):
    """One table for each prefix length that is in use; a prefix has one owner."""

    def __init__(self) -> None:
        # Address width in bits -> prefix length -> leading bits -> owner.
        self._tables: dict[int, dict[int, dict[int, P]]] = {32: {}, 128: {}}
        # (bits to shift away, table), the longest prefix first.
        self._search: dict[int, list[tuple[int, dict[int, P]]]] = {32: [], 128: []}
        self._owned: dict[P, dict[Network, None]] = {}
        # What was looked up lately; void after every change.
        self._cache: dict[bytes, P | None] = {}

    def insert(self, network: Network, peer: P) -> None:
        """Give a prefix to `peer`, whoever had it."""
        width, length = network.max_prefixlen, network.prefixlen
        table = self._tables[width].get(length)
        if table is None:
            table = self._tables[width][length] = {}
            self._order(width)
        bits = int(network.network_address) >> (width - length)
        before = table.get(bits)
        if before is not None:
            self._owned[before].pop(network, None)
        table[bits] = peer
        self._owned.setdefault(peer, {})[network] = None
        self._cache.clear()

    def remove(self, network: Network, peer: P) -> bool:
        """Take a prefix away from `peer`; False if it is not its own."""
        owned = self._owned.get(peer)
        if owned is None or network not in owned:
            return False
        del owned[network]
        width, length = network.max_prefixlen, network.prefixlen
        table = self._tables[width][length]
        del table[int(network.network_address) >> (width - length)]
        if not table:
            del self._tables[width][length]
            self._order(width)
        self._cache.clear()
        return True

    def remove_peer(self, peer: P) -> None:
        """Take all prefixes away from `peer`."""
        for network in list(self._owned.get(peer, ())):
            self.remove(network, peer)
        self._owned.pop(peer, None)

    def networks(self, peer: P) -> Iterator[Network]:
        """The prefixes of `peer`, in the order in which it got them."""
        return iter(self._owned.get(peer, ()))

    def lookup(self, address: bytes) -> P | None:
        """The owner of an address of 4 or 16 bytes."""
        cache = self._cache
        if address in cache:
            return cache[address]
        owner = None
        number = int.from_bytes(address, "big")
        for shift, table in self._search[len(address) * 8]:
            owner = table.get(number >> shift)
            if owner is not None:
                break
        if len(cache) >= _CACHE:
            cache.clear()
        cache[address] = owner
        return owner

    def _order(self, width: int) -> None:
        tables = self._tables[width]
        self._search[width] = [
            (width - length, tables[length]) for length in sorted(tables, reverse=True)
        ]
