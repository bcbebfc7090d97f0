"""`wgpy-agent status`: what the running agent of this node tells, for a human."""

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_HEADER = ("PEER", "READY", "LANE", "HANDSHAKE", "RECEIVED", "SENT", "ENDPOINT")
_MARKS = {"error": "ERROR", "warning": "warning", "info": "note"}


def render(told: Json) -> str:
    """Text of a Snapshot as JSON."""
    return "\n".join(_lines(told)) + "\n"


def _lines(told: Json) -> Iterator[str]:
    rotation = told["rotation"]
    ready = sum(peer["ready"] for peer in told["peers"])
    yield f"node {told['node']}: wgpy {told['version']}, {told['backend']} data plane"
    yield f"peers: {ready} of {len(told['peers'])} can be reached"
    for lane in told["lanes"]:
        active = ", active" if lane["number"] == told["active_lane"] else ""
        up = "" if lane["up"] else ", DOWN"
        yield f"lane {lane['number']}: port {lane['port']}, epoch {lane['epoch']}{active}{up}"
    waiting = f", waiting for {', '.join(rotation['waiting'])}" if rotation["waiting"] else ""
    yield f"rotation: {rotation['stage']}{waiting}"
    if not told["connected"]:
        yield "API server: no connection; traffic goes on as it is"
    if told["peers"]:
        yield ""
        yield from _table([_HEADER, *(row for peer in told["peers"] for row in _rows(peer))])
    dropped = {reason: n for reason, n in told["firewall_drops"].items() if n}
    if dropped:
        yield ""
        yield "dropped: " + ", ".join(f"{reason} {n}" for reason, n in sorted(dropped.items()))
    for title, lines in (
        ("drift", told["drift"]),
        ("healing", told["healing"]),
        ("problems", _problems(told)),
    ):
        if lines:
            yield ""
            yield f"{title}:"
            yield from (f"  {line}" for line in lines)


def _problems(told: Json) -> list[str]:
    lines = []
    for problem in told["problems"]:
        lines.append(f"{_MARKS[problem['severity']]}: {problem['what']}")
        if problem["advice"]:
            lines.append(f"  -> {problem['advice']}")
    return lines


def _rows(peer: Json) -> Iterator[tuple[str, ...]]:
    name, ready = peer["name"], "yes" if peer["ready"] else "NO"
    for lane in peer["lanes"]:
        sent_on = "*" if lane["lane"] == peer["route"] else ""
        yield (
            name,
            ready,
            f"{lane['lane']}{sent_on}",
            _age(lane["handshake_age"]),
            _amount(lane["rx_bytes"]),
            _amount(lane["tx_bytes"]),
            lane["endpoint"] or "unknown",
        )
        name = ready = ""
    if not peer["lanes"]:
        yield (name, ready, "-", "never", "-", "-", "-")


def _table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(map(str.ljust, row, widths)).rstrip()


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "never"
    whole = int(seconds)
    return f"{whole}s ago" if whole < 120 else f"{whole // 60}m ago"


def _amount(count: float) -> str:
    for unit in _UNITS[:-1]:
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} {_UNITS[-1]}"
