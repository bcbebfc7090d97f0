"""`wgpy show` for people: the text of `wg show`, byte for byte."""

from collections.abc import Iterator

from wgpy.protocol.config import InterfaceStats, PeerStats
from wgpy.tools.keys import key_text
from wgpy.tools.values import endpoint_text, network_text

_RESET = "\x1b[0m"
_BOLD = "\x1b[1m"
_RED = "\x1b[31m"
_GREEN = "\x1b[32m"
_YELLOW = "\x1b[33m"
_CYAN = "\x1b[36m"

_NANOSECONDS = 10**9
_UNITS = (
    ("year", 365 * 24 * 60 * 60),
    ("day", 24 * 60 * 60),
    ("hour", 60 * 60),
    ("minute", 60),
    ("second", 1),
)


class Style:
    """Where colours go, if they go anywhere, and whether keys are shown."""

    def __init__(self, *, color: bool, show_keys: bool) -> None:
        self._color = color
        self.show_keys = show_keys

    def paint(self, text: str, *codes: str) -> str:
        return "".join(codes) + text + _RESET if self._color else text

    def title(self, kind: str, name: str, color: str) -> str:
        return f"{self.paint(kind, color, _BOLD)}: {self.paint(name, color)}\n"

    def line(self, label: str, text: str) -> str:
        return f"  {self.paint(label, _BOLD)}: {text}\n"

    def amount(self, number: str, unit: str) -> str:
        return f"{number} {self.paint(unit, _CYAN)}"

    def secret(self, key: bytes) -> str:
        return key_text(key) if self.show_keys else "(hidden)"

    def reset(self) -> str:
        return _RESET if self._color else ""


def interface_text(name: str, stats: InterfaceStats, now: int, style: Style) -> str:
    """All of one interface, peers with the latest handshake first; `now` in seconds since 1970."""
    return "".join(_interface_lines(name, stats, now, style))


def _interface_lines(name: str, stats: InterfaceStats, now: int, style: Style) -> Iterator[str]:
    yield style.reset() + style.title("interface", name, _GREEN)
    if stats.public_key is not None:
        yield style.line("public key", key_text(stats.public_key))
    if stats.private_key is not None:
        yield style.line("private key", style.secret(stats.private_key))
    if stats.listen_port:
        yield style.line("listening port", str(stats.listen_port))
    if stats.fwmark:
        yield style.line("fwmark", f"{stats.fwmark:#x}")
    for peer in sorted(stats.peers, key=lambda peer: -peer.last_handshake_ns):
        yield "\n"
        yield from _peer_lines(peer, now, style)


def _peer_lines(peer: PeerStats, now: int, style: Style) -> Iterator[str]:
    yield style.title("peer", key_text(peer.public_key), _YELLOW)
    if any(peer.preshared_key):
        yield style.line("preshared key", style.secret(peer.preshared_key))
    if peer.endpoint is not None:
        yield style.line("endpoint", endpoint_text(peer.endpoint))
    slash = style.paint("/", _CYAN)
    networks = [network_text(network).replace("/", slash) for network in peer.allowed_ips]
    yield style.line("allowed ips", ", ".join(networks) or "(none)")
    if peer.last_handshake_ns:
        ago = _ago(now - peer.last_handshake_ns // _NANOSECONDS, style)
        yield style.line("latest handshake", ago)
    if peer.rx_bytes or peer.tx_bytes:
        received, sent = _bytes(peer.rx_bytes, style), _bytes(peer.tx_bytes, style)
        yield style.line("transfer", f"{received} received, {sent} sent")
    if peer.persistent_keepalive:
        every = _duration(peer.persistent_keepalive, style)
        yield style.line("persistent keepalive", f"every {every}")


def _ago(seconds: int, style: Style) -> str:
    if seconds < 0:
        warning = "System clock wound backward; connection problems may ensue."
        return f"({style.paint(warning, _RED)})"
    return f"{_duration(seconds, style)} ago" if seconds else "Now"


def _duration(seconds: int, style: Style) -> str:
    parts = []
    for unit, length in _UNITS:
        count, seconds = divmod(seconds, length)
        if count:
            parts.append(style.amount(str(count), unit if count == 1 else f"{unit}s"))
    return ", ".join(parts)


def _bytes(count: int, style: Style) -> str:
    if count < 1024:
        return style.amount(str(count), "B")
    for power, unit in enumerate(("KiB", "MiB", "GiB"), start=1):
        if count < 1024 ** (power + 1):
            return style.amount(f"{count / 1024**power:.2f}", unit)
    return style.amount(f"{count / 1024**4:.2f}", "TiB")
