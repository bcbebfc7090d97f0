"""One file descriptor that tells when something that is ours to keep has changed.

Netlink for links, addresses, routes, rules, settings (of both families) and nftables; a busy node
has many such events, most of them about pods, and only ours count, and those that may change how
large a packet to another node may be: "paths". Inotify for files.
"""

import select
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from agent.network import neighbours, netlinkevents, ruleset
from agent.network.filewatch import FileWatch
from agent.network.netlinkevents import Message
from agent.network.rtnetlink import MAIN, open_rtnetlink
from wgpy.protocol.config import Network

# When netlink's events were lost.
EVERYTHING = frozenset(
    [
        *("guard", "firewall", "forwarding", "lanes", "bridge", "sysctls", "links", "routes"),
        *("neighbours", "paths"),
    ]
)
_PATHS = frozenset({"paths"})
# The kernel tells nothing of the older iptables' rules: those wait for the look at everything.
_TABLES = {
    "ip filter": frozenset({"forwarding"}),
    "ip6 filter": frozenset({"forwarding"}),
    ruleset.TABLE_NAME: frozenset({"firewall"}),
    neighbours.TABLE_NAME: frozenset({"neighbours"}),
}


class Watch:
    """Events of the network namespace in which it was made.

    `fileno()` is readable when there may be something; `changes()` then names the resources that
    should look. The agent's own changes are reported as well: the pass they cause finds nothing.
    """

    def __init__(
        self,
        devices: Iterable[str],
        overlay: Iterable[Network] = (),
        cni: Iterable[Path] = (),
        attachments: Path | None = None,
    ) -> None:
        """`devices` are our interfaces; routes into `overlay`, which may be set anew at any time,
        matter whoever sets them.

        `cni` are the file for the runtime and the link to it, `attachments` is the directory of
        the runtime's notes (see agent.network.attachments); all directories must exist. OSError.
        """
        self._devices = frozenset(devices)
        self.overlay = tuple(overlay)
        self._files = [("cni", FileWatch(path.parent, path.name)) for path in cni]
        if attachments:
            self._files.append(("neighbours", FileWatch(attachments)))
        tables = netlinkevents.nft_socket()
        self._sockets = [netlinkevents.route_socket(), *([tables] if tables else [])]
        # After subscribing. Events of addresses and settings name devices by their index only.
        with open_rtnetlink() as ip:
            links = list(ip.get_links())
        names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in links}
        self._indexes = {index for index, name in names.items() if name in self._devices}
        # Of all links, as an event tells only what is now.
        self._mtus: dict[int, int] = {link["index"]: link.get_attr("IFLA_MTU") for link in links}
        self._queues: dict[int, int] = {
            link["index"]: link.get_attr("IFLA_TXQLEN") for link in links
        }
        self._epoll = select.epoll()
        for source in self._sources():
            self._epoll.register(source, select.EPOLLIN)

    def _sources(self) -> Iterator[socket.socket | FileWatch]:
        yield from self._sockets
        yield from (file for _, file in self._files)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._epoll.close()
        for source in self._sources():
            source.close()

    def fileno(self) -> int:
        return self._epoll.fileno()

    def changes(self) -> frozenset[str]:
        """Names of the resources that may differ since the last call; never blocks. OSError."""
        found: frozenset[str] = frozenset()
        for sock in self._sockets:
            for message in netlinkevents.drain(sock):
                if message is None:
                    # Whichever change of a queue is lost must not hide the event after it.
                    self._queues.clear()
                found |= EVERYTHING if message is None else self._concerned(message)
        return found | {name for name, file in self._files if file.changed()}

    def _concerned(self, message: Message) -> frozenset[str]:
        match message:
            case netlinkevents.LinkEvent(index, name, gone, mtu, queue_length):
                if self._has_another_queue(index, gone, queue_length):
                    return frozenset()
                resized = self._resized(index, gone, mtu)
                return self._concerned_by_link(index, name, gone) | resized
            case netlinkevents.AddressEvent(index) if index in self._indexes:
                # Routes go with the address that they name as their source.
                return frozenset({"links", "routes"})
            case netlinkevents.RouteEvent(prefix, ours, table):
                if ours or any(_overlap(prefix, network) for network in self.overlay):
                    return frozenset({"guard", "routes"})
                if table == MAIN and _leads_away(prefix):
                    return _PATHS
            case netlinkevents.RuleEvent(ours=True):
                return frozenset({"routes"})
            case netlinkevents.SettingEvent(index) if index is None or index in self._indexes:
                return frozenset({"sysctls"})
            case netlinkevents.TableEvent(where):
                return _TABLES.get(where, frozenset())
        return frozenset()

    def _has_another_queue(self, index: int, gone: bool, length: int) -> bool:
        """The kernel tells of each change alone, and a data plane makes this one by itself."""
        before = self._queues.pop(index, length)
        if not gone:
            self._queues[index] = length
        return before != length

    def _concerned_by_link(self, index: int, name: str, gone: bool) -> frozenset[str]:
        if name not in self._devices:
            # Ours until it was renamed.
            if index not in self._indexes:
                return frozenset()
            gone = True
        if gone:
            self._indexes.discard(index)
        else:
            self._indexes.add(index)
        return frozenset({"lanes", "bridge", "links", "routes", "sysctls"})

    def _resized(self, index: int, gone: bool, mtu: int) -> frozenset[str]:
        """A link that comes or goes is no path yet, or none any more: its routes tell of that."""
        before = self._mtus.pop(index, mtu)
        if not gone:
            self._mtus[index] = mtu
        return frozenset() if gone or before == mtu or index in self._indexes else _PATHS


def _leads_away(prefix: Network | None) -> bool:
    # Every new interface has routes of these kinds.
    return prefix is None or not (prefix.is_link_local or prefix.is_multicast)


def _overlap(one: Network | None, other: Network) -> bool:
    # The default route and such are nobody's part of the overlay.
    if one is None or one.version != other.version or one.prefixlen < other.prefixlen:
        return False
    return one.network_address in other
