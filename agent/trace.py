"""The way of a packet from a pod of this node to another pod, hop by hop, up to where it stops.

Only questions to the host and judgements of the answers. A hop is asked about when those before it
are in order: what follows from a cause is not told as another one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Literal, Protocol, TypeAlias

from agent.model import Address
from agent.network.attachments import Attachment
from agent.network.base import POD_BRIDGE
from agent.paths import SMALL, Answer
from agent.prefixes import node_address
from agent.topology import Cluster
from wgpy.protocol.config import InterfaceStats, Network, PeerStats

Verdict: TypeAlias = Literal["ok", "warning", "error"]

# Seconds. A session is dead after this (REJECT_AFTER_TIME); a host that looks for a neighbour in
# vain says so after three of them, one that has no such network at once.
_SESSION = 180.0
_AT_ONCE = 0.7
# Bytes: more than keepalives of the time that it takes, less than three packets and answers.
_ANSWERS = 200
_STATUS = "see `wgpy-agent status`"
_FOREIGN = "find it with `nft list ruleset` and `iptables-save`"


@dataclass(frozen=True, slots=True)
class Hop:
    """One station of the way."""

    name: str
    verdict: Verdict
    what: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class LinkFacts:
    """An interface. No carrier: nobody is at its other end."""

    up: bool
    carrier: bool
    master: str | None


@dataclass(frozen=True, slots=True)
class Followed:
    """How many packets were counted at each stage of the packet filter (agent.network.trail)."""

    stages: Mapping[str, int]
    # What our own filter has dropped meanwhile, by reason.
    dropped: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Heard:
    """Bytes that a peer's agent says that it has had of us on a lane, and sent us."""

    received: float
    sent: float


class Host(Protocol):
    """What the way depends on here, and what can be heard of the other end. NetworkError."""

    def attachment(self, pod: Address) -> Attachment | None:
        """Of a pod of this node, as the container runtime has noted it."""

    def link(self, name: str) -> LinkFacts | None: ...

    def is_neighbour(self, address: Address) -> bool:
        """Whether somebody on the pod bridge says that it is him, when he is asked now."""

    def forwards(self, version: int) -> bool: ...

    def route(self, target: Address, pod: Address | None = None) -> tuple[str | None, str]:
        """The interface that the kernel takes for this host's packet or a pod's, and its words."""

    def device(self, name: str) -> InterfaceStats | None: ...

    def age(self, peer: PeerStats) -> float | None:
        """Of its last handshake, seconds."""

    def ask(self, address: Address, size: int = SMALL, timeout: float = 1.0) -> Answer: ...

    def path_mtu(self, address: Address) -> int: ...

    def follow(self, source: Address, target: Address) -> Followed | None:
        """Packets that pod `source` really sends to `target`; None: they cannot be counted."""

    def heard(self, endpoint: Address, lane: int) -> Heard | None:
        """None: its agent does not tell."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the API server says, as far as it can be asked."""

    # This node's name.
    name: str
    lanes: tuple[str, ...]
    cluster: Cluster | None = None
    # By node, what its own agent says is wrong there.
    complaints: Mapping[str, str] = field(default_factory=dict)

    def owner(self, pod: Address) -> str | None:
        prefixes = self.cluster.prefixes.items() if self.cluster else ()
        return next((name for name, owned in prefixes if _within(pod, owned.pods)), None)

    def published_key(self, name: str, lane: int) -> bytes | None:
        peer = self.cluster.peers.get(name) if self.cluster else None
        return peer.lanes[lane].public_key if peer else None

    def endpoint(self, name: str) -> Address | None:
        return self.cluster.endpoint(name) if self.cluster else None


def trace(host: Host, known: Known, source: Address, target: Address) -> Iterator[Hop]:
    """The hops of a packet up to the first that is in error."""
    for hop in _Way(host, known, source, target).hops():
        yield hop
        if hop.verdict == "error":
            return


@dataclass(slots=True)
class _Way:
    host: Host
    known: Known
    source: Address
    target: Address
    # Found on the way: the other node's name, the interface that leads there, whether the pod
    # here answers and so can be made to send.
    node: str = ""
    device: str = ""
    talks: bool = False

    def hops(self) -> Iterator[Hop]:
        yield from self._pod()
        yield from self._bridge()
        yield from self._route()
        if self.device == POD_BRIDGE:
            yield self._other_pod("pod")
            return
        yield from self._filter("filter", self.source, self.target)
        yield from self._tunnel()
        yield from self._filter("way back", self.target, self.source)

    # This node's end.

    def _pod(self) -> Iterator[Hop]:
        note = self.host.attachment(self.source)
        owner = self.known.owner(self.source)
        if note is None:
            if owner not in (None, self.known.name):
                what = f"{self.source} is a pod of node {owner}"
                yield Hop("pod", "error", what, f"run this in the agent's pod on node {owner}")
                return
            what = f"no pod of this node has the address {self.source}"
            yield Hop("pod", "error", what, "see `kubectl get pods -A -o wide`")
            return
        yield Hop("pod", "ok", f"{self.source} is attached to this node by {note.veth}")
        link = self.host.link(note.veth)
        trouble = _trouble(link)
        if not trouble and link is not None and link.master != POD_BRIDGE:
            trouble = f"is not on the bridge {POD_BRIDGE}"
        if trouble:
            advice = "delete the pod, its controller makes another"
            yield Hop("veth", "error", f"{note.veth} {trouble}", advice)
        else:
            yield Hop("veth", "ok", f"{note.veth} is up, and on {POD_BRIDGE}")

    def _bridge(self) -> Iterator[Hop]:
        if trouble := _trouble(self.host.link(POD_BRIDGE)):
            yield Hop("bridge", "error", f"{POD_BRIDGE} {trouble}", _STATUS)
            return
        answer = self.host.ask(self.source)
        self.talks = answer.heard == "reached"
        if self.talks:
            what = f"{POD_BRIDGE} is up, the pod answers over it in {_ms(answer)}"
            yield Hop("bridge", "ok", what)
        elif self.host.is_neighbour(self.source):
            what = f"the pod is on {POD_BRIDGE}, but answers no UDP: its packets are not followed"
            yield Hop("bridge", "warning", what, "a filter of its own, or a network policy?")
        else:
            what = f"nobody on {POD_BRIDGE} says that he is {self.source}"
            yield Hop("bridge", "error", what, "look at the interface inside of the pod")

    def _route(self) -> Iterator[Hop]:
        self.node = self.known.owner(self.target) or ""
        if self.known.cluster and not self.node:
            what = f"{self.target} is in no node's pod CIDR"
            yield Hop("route", "error", what, "see `kubectl get pods -A -o wide`")
            return
        if not self.host.forwards(self.source.version):
            what = f"this host does not forward IPv{self.source.version}"
            yield Hop("route", "error", what, _STATUS)
            return
        device, words = self.host.route(self.target, self.source)
        troubles = ((lane, _trouble(self.host.link(lane))) for lane in self.known.lanes)
        if device is None and (down := " and ".join(f"{n} {why}" for n, why in troubles if why)):
            # Its routes go with it.
            yield Hop("lane", "error", down, _STATUS)
        elif device is None:
            what = f"the kernel has no way to {self.target}: {words}"
            yield Hop("route", "error", what, _STATUS)
        elif device in (*self.known.lanes, POD_BRIDGE):
            self.device = device
            where = f", node {self.node}" if self.node else ""
            yield Hop("route", "ok", f"to {self.target}{where}: {words}")
        else:
            what = f"{self.target} leaves by {device}, not by a lane, and is dropped: {words}"
            advice = f"remove the route of somebody else: ip route get {self.target}"
            yield Hop("route", "error", what, advice)

    def _filter(self, name: str, source: Address, target: Address) -> Iterator[Hop]:
        """Packets of one pod to the other, through this host's packet filter."""
        back = name != "filter"
        if not back and not self.talks:
            return
        followed = self.host.follow(source, target)
        if followed is None:
            what = "packets cannot be followed through the packet filter: there is no nftables"
            yield Hop(name, "warning", what)
            return
        stages = followed.stages
        lost = _lost(stages, back)
        dropped = ", ".join(f"{reason} {n}" for reason, n in followed.dropped.items())
        if not lost:
            what = f"{stages['left']} packets from {source} to {target} passed the packet filter"
            yield Hop(name, "ok", what)
        elif dropped:
            what = f"from {source} to {target}: {lost}; dropped by our own filter: {dropped}"
            yield Hop(name, "error", what, _STATUS)
        else:
            what = f"from {source} to {target}: {lost}, by a rule of somebody else"
            yield Hop(name, "error", what, _FOREIGN)

    # The tunnel and the other node's end.

    def _tunnel(self) -> Iterator[Hop]:
        lane = self.known.lanes.index(self.device)
        stats = self.host.device(self.device)
        peer = _peer(stats, self.target)
        yield self._lane(lane, stats, peer)
        assert peer is not None  # otherwise that was the last hop
        gateway = _gateway(peer, self.target)
        at = ip_address(peer.endpoint.host) if peer.endpoint else None
        before = self.host.heard(at, lane) if at else None
        answer = self.host.ask(gateway)
        after = self.host.heard(at, lane) if at else None
        now = _peer(self.host.device(self.device), self.target)
        came_back = now.rx_bytes - peer.rx_bytes if now else 0
        yield self._endpoint(peer, at, answer)
        if answer.heard == "silence":
            yield self._silence(peer, _more(before, after), came_back)
        else:
            yield self._underlay(gateway, answer)
        if complaint := self.known.complaints.get(self.node):
            what = f"the agent of {self.node} says: {complaint}"
            yield Hop("other lane", "warning", what)
        else:
            what = f"{gateway}, the other node inside of the tunnel, answers in {_ms(answer)}"
            yield Hop("other lane", "ok", what)
        yield self._other_pod("other pod")

    def _lane(self, lane: int, stats: InterfaceStats | None, peer: PeerStats | None) -> Hop:
        if trouble := _trouble(self.host.link(self.device)):
            return Hop("lane", "error", f"{self.device} {trouble}", _STATUS)
        if stats is None:
            return Hop("lane", "error", f"{self.device}: its device does not answer", _STATUS)
        if peer is None:
            what = f"{self.device} has no peer with {self.target} among its allowed IPs"
            return Hop("lane", "error", what, _STATUS)
        published = self.known.published_key(self.node, lane)
        if published not in (None, peer.public_key):
            what = f"{self.device} has another key for {self.target} than {self.node} publishes"
            return Hop("lane", "error", what, "its agent does not hear of news: " + _STATUS)
        age = self.host.age(peer)
        told = "no handshake yet" if age is None else f"the last handshake was {age:.0f} s ago"
        what = f"{self.device}: peer {peer.public_key.hex()[:8]}, {told}"
        live = age is not None and age < _SESSION
        return Hop("lane", "ok" if live else "warning", what)

    def _endpoint(self, peer: PeerStats, at: Address | None, answer: Answer) -> Hop:
        if at is None:
            what = "nobody knows where the other node is: it has to come to us"
            return Hop("endpoint", "error" if answer.heard == "silence" else "warning", what)
        device, words = self.host.route(at)
        if device is None or device in (*self.known.lanes, POD_BRIDGE):
            what = f"there is no way to the endpoint {peer.endpoint}: {words}"
            return Hop("endpoint", "error", what, "look at this host's own routes")
        told = self.known.endpoint(self.node)
        what = f"{peer.endpoint}, {words}"
        if told not in (None, at):
            what += f"; but {self.node} says that it is at {told}"
            bad = answer.heard == "silence"
            return Hop("endpoint", "error" if bad else "warning", what, _STATUS)
        return Hop("endpoint", "ok", what)

    def _silence(self, peer: PeerStats, there: Heard | None, came_back: int) -> Hop:
        where = f"UDP to {peer.endpoint}"
        if there is None:
            what = "nothing comes back through the tunnel, and the agent there cannot be asked"
            advice = f"see whether its host is up, its agent runs, and {where} passes"
            return Hop("underlay", "error", what, advice)
        if there.received < _ANSWERS:
            what = f"the agent there says that nothing of it has come: {where} is lost"
            return Hop("underlay", "error", what, "look at what filters between the nodes")
        if came_back < _ANSWERS <= there.sent:
            what = f"{there.received:.0f} bytes came there, the {there.sent:.0f} in answer are lost"
            return Hop("underlay", "error", what, "look at what filters between the nodes")
        what = f"{there.received:.0f} bytes came out of the other lane, and nobody answers them"
        advice = f"look at the packet filter of {self.node}; `wgpy-agent doctor` there"
        return Hop("other lane", "error", what, advice)

    def _underlay(self, gateway: Address, answer: Answer) -> Hop:
        size = self.host.path_mtu(gateway)
        if answer.heard == "reached" and self.host.ask(gateway, size).heard != "reached":
            what = f"packets of {SMALL} bytes come through, of {size} do not"
            advice = "the network between the nodes loses large packets: lower its MTU on both"
            return Hop("underlay", "error", what, advice)
        return Hop("underlay", "ok", f"packets of up to {size} bytes come through, and back")

    def _other_pod(self, name: str) -> Hop:
        # So long may its node look for it.
        answer = self.host.ask(self.target, timeout=4.0)
        if answer.heard == "unreachable" and answer.seconds < _AT_ONCE:
            # It may have been looking already, for packets before this one.
            answer = self.host.ask(self.target, timeout=4.0)
        where = "this node" if name == "pod" else f"node {self.node}" if self.node else "its node"
        if answer.heard == "reached":
            return Hop(name, "ok", f"{self.target} answers in {_ms(answer)}")
        if answer.heard == "silence":
            what = f"{self.target} is there, and does not answer"
            return Hop(name, "error", what, "a filter of its own, or a network policy?")
        if answer.heard == "unreachable" and answer.seconds < _AT_ONCE:
            what = f"{where} says at once that it has no way to {self.target}"
            advice = f"see whether {POD_BRIDGE} is there and up on {where}"
            return Hop("other bridge", "error", what, advice)
        what = f"{where} has looked on its bridge, and nobody says that he is {self.target}"
        return Hop(name, "error", what, "see `kubectl get pods -A -o wide`")


def _trouble(link: LinkFacts | None) -> str:
    if link is None:
        return "is not there"
    if not link.up:
        return "is down"
    return "" if link.carrier else "has nobody at its other end, or it is down there"


def _lost(stages: Mapping[str, int], back: bool) -> str:
    """Where packets are lost, empty if they are not."""
    if not stages["entered"]:
        return "none has come out of the tunnel" if back else "none has come from the bridge"
    for stage, what in (
        ("routed", "lost before they are forwarded"),
        ("passed", "lost where they are forwarded"),
        ("left", "lost where they leave"),
    ):
        if not stages[stage]:
            return f"{stages['entered']} came, and are {what}"
    return ""


def _peer(stats: InterfaceStats | None, target: Address) -> PeerStats | None:
    peers = stats.peers if stats else ()
    return next((peer for peer in peers if _within(target, peer.allowed_ips)), None)


def _gateway(peer: PeerStats, target: Address) -> Address:
    return node_address(next(network for network in peer.allowed_ips if target in network))


def _within(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)


def _more(before: Heard | None, after: Heard | None) -> Heard | None:
    if before is None or after is None:
        return None
    return Heard(after.received - before.received, after.sent - before.sent)


def _ms(answer: Answer) -> str:
    return f"{answer.seconds * 1000:.1f} ms"
