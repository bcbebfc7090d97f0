"""The way to a peer: its endpoint, and the local address that it speaks to."""

from dataclasses import dataclass
from typing import NamedTuple

from wgpy.protocol.config import Endpoint


class Source(NamedTuple):
    """The local address that a peer's packet was sent to, and the interface it came in by."""

    address: str
    interface: int


@dataclass(frozen=True, slots=True)
class Path:
    """Where datagrams to a peer go, and from where they leave (None: the route decides)."""

    endpoint: Endpoint
    source: Source | None = None
