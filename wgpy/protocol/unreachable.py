"""Tell the host that a packet has no way: the ICMP errors that the kernel's WireGuard sends."""

from collections import OrderedDict
from struct import Struct

from wgpy.protocol.innerpacket import destination, source

_ICMP, _ICMPV6 = 1, 58
# Host unreachable (RFC 792); address unreachable (RFC 4443, section 3.1).
_V4_TYPE_CODE = 3, 1
_V6_TYPE_CODE = 1, 3
# Errors about these would be errors about errors (RFC 1122, section 3.2.2).
_V4_ERRORS = frozenset((3, 4, 5, 11, 12))
_V6_FIRST_INFORMATIONAL = 128
# The whole answer is no longer than this (RFC 1812, section 4.3.2.3; RFC 4443, section 2.4).
_V4_LIMIT, _V6_LIMIT = 576, 1280
_TTL = 64
_V4_HEADER = Struct(">BBHHHBBH4s4s")
_V6_HEADER = Struct(">IHBB16s16s")
_ICMP_HEADER = Struct(">BBHI")

# The kernel's icmp_msgs_per_sec and icmp_msgs_burst; icmp_ratelimit with its burst per target.
_GLOBAL_RATE, _GLOBAL_BURST = 1000.0, 50.0
_TARGET_RATE, _TARGET_BURST = 1.0, 6.0
_TARGETS_KEPT = 1024


class _Bucket:
    __slots__ = ("last", "tokens")

    def __init__(self, tokens: float, now: float) -> None:
        self.tokens = tokens
        self.last = now

    def take(self, rate: float, burst: float, now: float) -> bool:
        self.tokens = min(burst, self.tokens + (now - self.last) * rate)
        self.last = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class Unreachables:
    """Makes the answers, and not too many of them."""

    def __init__(self) -> None:
        # Our own addresses, 4 and 16 bytes, from which the errors come.
        self.source_v4: bytes | None = None
        self.source_v6: bytes | None = None
        self._global: _Bucket | None = None
        self._targets: OrderedDict[bytes, _Bucket] = OrderedDict()

    def answer(self, packet: memoryview, now: float) -> bytes | None:
        """The packet to give to the host for one that was dropped; None where silence is due."""
        if destination(packet) is None or not _deserves_answer(packet):
            return None
        target = source(packet)
        own = (self.source_v4 if len(target) == 4 else self.source_v6) or target
        if not self._allow(target, own, now):
            return None
        return build_unreachable(packet, own)

    def _allow(self, target: bytes, own: bytes, now: float) -> bool:
        if self._global is None:
            self._global = _Bucket(_GLOBAL_BURST, now)
        if not self._global.take(_GLOBAL_RATE, _GLOBAL_BURST, now):
            return False
        if target == own:
            # The host itself; as in the kernel, only others have to share.
            return True
        bucket = self._targets.pop(target, None) or _Bucket(_TARGET_BURST, now)
        self._targets[target] = bucket
        if len(self._targets) > _TARGETS_KEPT:
            self._targets.popitem(last=False)
        return bucket.take(_TARGET_RATE, _TARGET_BURST, now)


def _deserves_answer(packet: memoryview) -> bool:
    """The cases in which RFC 1122 and RFC 4443 allow an error."""
    target, where = source(packet), destination(packet)
    assert where is not None
    if len(target) == 16:
        # The unspecified address, and multicast at either end.
        if not any(target) or target[0] == 0xFF or where[0] == 0xFF:
            return False
        return not (
            packet[6] == _ICMPV6 and (len(packet) <= 40 or packet[40] < _V6_FIRST_INFORMATIONAL)
        )
    # "This network", loopback, multicast, reserved and broadcast.
    if target[0] in (0, 127) or target[0] >= 224 or where[0] >= 224:
        return False
    if (packet[6] << 8 | packet[7]) & 0x1FFF:
        # A later fragment.
        return False
    payload = (packet[0] & 15) * 4
    return not (packet[9] == _ICMP and (len(packet) <= payload or packet[payload] in _V4_ERRORS))


def build_unreachable(packet: memoryview, own: bytes) -> bytes:
    """An ICMP error about `packet`, to its source, from `own`."""
    target = source(packet)
    if len(own) == 4:
        quote = bytes(packet[: _V4_LIMIT - _V4_HEADER.size - _ICMP_HEADER.size])
        body = _with_checksum(_V4_TYPE_CODE, quote, b"")
        # Precedence internetwork control, as routers' errors have (RFC 1812, section 4.3.2.5).
        fields = 0x45, 0xC0, _V4_HEADER.size + len(body), 0, 0, _TTL, _ICMP
        head = _V4_HEADER.pack(*fields, 0, own, target)
        return _V4_HEADER.pack(*fields, _checksum(head), own, target) + body
    quote = bytes(packet[: _V6_LIMIT - _V6_HEADER.size - _ICMP_HEADER.size])
    length = _ICMP_HEADER.size + len(quote)
    pseudo = own + target + length.to_bytes(4, "big") + _ICMPV6.to_bytes(4, "big")
    body = _with_checksum(_V6_TYPE_CODE, quote, pseudo)
    return _V6_HEADER.pack(6 << 28, length, _ICMPV6, _TTL, own, target) + body


def _with_checksum(type_code: tuple[int, int], quote: bytes, pseudo: bytes) -> bytes:
    checksum = _checksum(pseudo + _ICMP_HEADER.pack(*type_code, 0, 0) + quote)
    return _ICMP_HEADER.pack(*type_code, checksum, 0) + quote


def _checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071), by the remainder of one long number."""
    if len(data) % 2:
        data += b"\0"
    return -int.from_bytes(data, "big") % 0xFFFF
