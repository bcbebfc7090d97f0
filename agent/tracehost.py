"""What `wgpy-agent trace` asks of this host, and of the other node's agent. Blocking."""

import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from errno import ENODEV
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from pyroute2.netlink.exceptions import NetlinkError

from agent import paths
from agent.model import Address
from agent.network.attachments import RESULTS, Attachment, parse_result_untrusted
from agent.network.base import POD_BRIDGE, NetworkError, explained
from agent.network.firewall import open_firewall
from agent.network.neighbours import Neighbours
from agent.network.nft import is_available
from agent.network.rtnetlink import FAMILIES, device_names, open_rtnetlink
from agent.network.trail import STAGES, Trail, TrailDesired
from agent.trace import Followed, Heard, LinkFacts
from wgpy import dataplane
from wgpy.dataplane import DataPlaneError
from wgpy.protocol.config import InterfaceStats, PeerStats

# linux/if.h, linux/neighbour.h
_IFF_UP = 1
_NUD_VALID = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80
_NS = 10**9
_PACKETS = 3
# Seconds until counted packets have arrived, and until another agent must have answered.
_ARRIVED = 2.0
# And until a host has looked for a neighbour in vain.
_LOOKED = 4.0
_TIMEOUT = 3.0
_FORWARDING = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}


class TraceHost:
    """This node, for agent.trace."""

    def __init__(self, name: str, port: int, proc_sys: Path, results: Path = RESULTS) -> None:
        """`name` is this node's, `port` where agents serve their metrics."""
        self._name = name
        self._port = port
        self._proc_sys = proc_sys
        self._results = results

    def attachment(self, pod: Address) -> Attachment | None:
        try:
            notes = [path.read_bytes() for path in self._results.iterdir()]
        except OSError as error:
            raise explained(str(self._results), error) from None
        for note in notes:
            try:
                attachment = parse_result_untrusted(note)
            except ValueError:
                continue
            if attachment is not None and pod in attachment.addresses:
                return attachment
        return None

    def link(self, name: str) -> LinkFacts | None:
        with open_rtnetlink() as ip:
            names = device_names(ip)
            for link in ip.get_links():
                if link.get_attr("IFLA_IFNAME") == name:
                    up = bool(link["flags"] & _IFF_UP)
                    # As the kernel has it also for devices that have no such thing: not 0.
                    carrier = link.get_attr("IFLA_CARRIER") != 0
                    return LinkFacts(up, carrier, names.get(link.get_attr("IFLA_MASTER")))
        return None

    def is_neighbour(self, address: Address) -> bool:
        with open_rtnetlink() as ip:
            (bridge,) = ip.link_lookup(ifname=POD_BRIDGE) or (0,)
            # What is known may be of earlier.
            with suppress(NetlinkError):
                ip.neigh("del", dst=str(address), ifindex=bridge)
            paths.ask(str(address), timeout=_LOOKED, tries=1)
            for entry in ip.get_neighbours(FAMILIES[address.version], ifindex=bridge):
                if entry.get_attr("NDA_DST") == str(address):
                    return bool(entry["state"] & _NUD_VALID)
        return False

    def forwards(self, version: int) -> bool:
        path = self._proc_sys / _FORWARDING[version]
        try:
            return path.read_text().strip() != "0"
        except OSError as error:
            raise explained(str(path), error) from None

    def route(self, target: Address, pod: Address | None = None) -> tuple[str | None, str]:
        words: dict[str, Any] = {"family": FAMILIES[target.version], "dst": str(target)}
        with open_rtnetlink() as ip:
            if pod is not None:
                (bridge,) = ip.link_lookup(ifname=POD_BRIDGE) or (0,)
                words |= {"src": str(pod), "iif": bridge}
            try:
                (route, *_) = ip.route("get", **words)
            except NetlinkError as error:
                return None, str(error.args[1])
            device = device_names(ip).get(route.get_attr("RTA_OIF"))
        via = route.get_attr("RTA_GATEWAY")
        return device, f"dev {device}" + (f" via {via}" if via else "")

    def device(self, name: str) -> InterfaceStats | None:
        try:
            return dataplane.get_interface(name)
        except DataPlaneError as error:
            if error.errno == ENODEV:
                return None
            raise NetworkError(error.message, error.advice) from None

    def age(self, peer: PeerStats) -> float | None:
        if not peer.last_handshake_ns:
            return None
        return max(0, time.time_ns() - peer.last_handshake_ns) / _NS

    def ask(self, address: Address, size: int = paths.SMALL, timeout: float = 1.0) -> paths.Answer:
        return paths.ask(str(address), size, timeout)

    def path_mtu(self, address: Address) -> int:
        return paths.path_mtu(str(address))

    def follow(self, source: Address, target: Address) -> Followed | None:
        """The pod is asked in the other's name, and so answers the other."""
        if not is_available():
            return None
        trail = Trail()
        trail.reconcile(TrailDesired(source, target))
        try:
            before = _drops()
            paths.pose(str(target), str(source), _PACKETS)
            _wait(lambda: _stages(trail)["left"] >= _PACKETS)
            stages, after = _stages(trail), _drops()
        except OSError as error:
            raise explained(f"packets from {source} to {target}", error) from None
        finally:
            trail.remove()
        more = {reason: after[reason] - before.get(reason, 0) for reason in after}
        return Followed(stages, {reason: n for reason, n in more.items() if n})

    def heard(self, endpoint: Address, lane: int) -> Heard | None:
        """As its metrics say, over the underlay; they are no more than a second old."""
        time.sleep(1.1)
        host = f"[{endpoint}]" if endpoint.version == 6 else str(endpoint)
        try:
            url = f"http://{host}:{self._port}/metrics"
            with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
                text = answer.read().decode()
            wanted = {"peer": self._name, "lane": str(lane)}
            found = {
                sample.name: sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
                if sample.labels == wanted
            }
            return Heard(
                found["wgpy_peer_received_bytes_total"], found["wgpy_peer_sent_bytes_total"]
            )
        except (OSError, ValueError, KeyError):
            return None


def _stages(trail: Trail) -> dict[str, int]:
    counts = trail.counters()
    return {stage: counts[stage].packets for stage in STAGES}


def _drops() -> dict[str, int]:
    """By our own filter, as far as it is there."""
    counts = {**open_firewall().counters(), **Neighbours().counters()}
    return {reason: count.packets for reason, count in counts.items()}


def _wait(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _ARRIVED
    while not done() and time.monotonic() < deadline:
        time.sleep(0.1)
