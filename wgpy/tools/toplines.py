"""What `wgpy top` shows: two samples of interfaces become lines, without terminal or clock."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from wgpy.protocol.config import InterfaceStats, PeerStats
from wgpy.tools.keys import key_text
from wgpy.tools.values import endpoint_text

_NANOSECONDS = 10**9
_HEAD = ("PEER", "RECEIVED", "SENT", "HANDSHAKE", "ENDPOINT", "DROPS")
# Columns of numbers end together.
_RIGHT = (1, 2, 3)
_GAP = "  "
# A key that is cut still tells peers apart.
_SHORT_KEY = 12
_WIDE = 120
_AGES = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


class Sample(NamedTuple):
    """Interfaces at one moment."""

    # Monotonic seconds.
    at: float
    # Seconds since 1970.
    wall: int
    interfaces: dict[str, InterfaceStats]
    # Counters of the link, by the kernel's names, for what a plane does not count itself.
    links: dict[str, dict[str, int]]
    # Interfaces that could not be read, and a line on why.
    failures: dict[str, str]


class _Rated(NamedTuple):
    """A peer, and bits in a second; None where that is unknown."""

    peer: PeerStats
    received: float | None
    sent: float | None


def lines(before: Sample, now: Sample, width: int | None = None) -> list[str]:
    """The whole picture; `width` characters at most in a line, None for as many as it takes.

    Interfaces by name, their busiest peers first. A rate is unknown (`-`) for what was not there
    in `before`, and for counters that have begun anew.
    """
    found: list[str] = []
    for name, stats in sorted(now.interfaces.items()):
        found += [*_interface_lines(name, stats, before, now, width), ""]
    for _, failure in sorted(now.failures.items()):
        found += [failure, ""]
    found = found[:-1] or ["no WireGuard interface"]
    return [line[:width] for line in found]


def fit(found: list[str], height: int) -> list[str]:
    """As many lines as a screen has; the last one says how many are missing."""
    if len(found) <= height:
        return found
    kept = max(0, height - 1)
    return [*found[:kept], f"... {len(found) - kept} lines more"][:height]


def _interface_lines(
    name: str, stats: InterfaceStats, before: Sample, now: Sample, width: int | None
) -> Iterator[str]:
    elapsed = now.at - before.at
    old = before.interfaces.get(name, InterfaceStats())
    old_peers = {peer.public_key: peer for peer in old.peers}
    rated = [_rated(old_peers.get(peer.public_key), peer, elapsed) for peer in stats.peers]
    rated.sort(key=lambda r: (-(r.received or 0) - (r.sent or 0), -r.peer.last_handshake_ns))
    received, sent = _total(r.received for r in rated), _total(r.sent for r in rated)
    port = f", port {stats.listen_port}" if stats.listen_port else ""
    yield f"{name}{port}: {_rate(received)} received, {_rate(sent)} sent"
    drops = _all_drops(name, stats, now)
    if any(drops.values()):
        old_drops = _all_drops(name, old, before) if name in before.interfaces else drops
        yield f"drops: {_drops_text(drops, old_drops, elapsed)}"
    if not rated:
        yield "no peers"
        return
    key_width = None if width is None or width >= _WIDE else _SHORT_KEY
    yield from _table([_HEAD, *(_row(one, now.wall, key_width) for one in rated)])


def _rated(old: PeerStats | None, peer: PeerStats, elapsed: float) -> _Rated:
    if old is None or elapsed <= 0:
        return _Rated(peer, None, None)
    return _Rated(
        peer,
        _growth(old.rx_bytes, peer.rx_bytes, elapsed, 8),
        _growth(old.tx_bytes, peer.tx_bytes, elapsed, 8),
    )


def _total(rates: Iterable[float | None]) -> float | None:
    known = [rate for rate in rates if rate is not None]
    return sum(known) if known else None


def _growth(old: int, new: int, elapsed: float, factor: int) -> float | None:
    return (new - old) * factor / elapsed if new >= old else None


def _row(rated: _Rated, wall: int, key_width: int | None) -> tuple[str, ...]:
    peer = rated.peer
    age = wall - peer.last_handshake_ns // _NANOSECONDS
    return (
        key_text(peer.public_key)[:key_width],
        _rate(rated.received),
        _rate(rated.sent),
        age_text(age) if peer.last_handshake_ns else "never",
        "-" if peer.endpoint is None else endpoint_text(peer.endpoint),
        ", ".join(f"{reason} {count}" for reason, count in _sorted(peer.drops)),
    )


def _table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.rjust(width) if number in _RIGHT else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield _GAP.join(cells).rstrip()


def _all_drops(name: str, stats: InterfaceStats, sample: Sample) -> dict[str, int]:
    return {**sample.links.get(name, {}), **stats.drops}


def _drops_text(drops: dict[str, int], old: dict[str, int], elapsed: float) -> str:
    parts = []
    for reason, count in _sorted(drops):
        grown = _growth(old.get(reason, 0), count, elapsed, 1) if elapsed > 0 else None
        parts.append(f"{reason} {count}" + (f" (+{grown:.0f}/s)" if grown else ""))
    return ", ".join(parts)


def _sorted(drops: dict[str, int]) -> list[tuple[str, int]]:
    """The most frequent first; none that never happened."""
    return sorted(((r, n) for r, n in drops.items() if n), key=lambda item: (-item[1], item[0]))


def _rate(bits: float | None) -> str:
    if bits is None:
        return "-"
    for unit in ("bit/s", "kbit/s", "Mbit/s"):
        if bits < 1000:
            return f"{bits:.0f} {unit}" if unit == "bit/s" else f"{bits:.1f} {unit}"
        bits /= 1000
    return f"{bits:.2f} Gbit/s"


def age_text(seconds: int) -> str:
    """The two largest units of a time: `1m 5s`; a negative one is a clock that was set back."""
    if seconds < 0:
        return "in the future"
    parts = []
    for unit, length in _AGES:
        count, seconds = divmod(seconds, length)
        if count:
            parts.append(f"{count}{unit}")
        elif parts:
            break
    return " ".join(parts[:2]) or "0s"
