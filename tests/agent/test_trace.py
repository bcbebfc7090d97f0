"""The way of a packet, judged by what a host of our making answers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network

import pytest

from agent.model import Address
from agent.network.attachments import Attachment
from agent.network.trail import STAGES
from agent.paths import SMALL, Answer
from agent.topology import shares, survey
from agent.trace import Followed, Heard, Hop, Known, LinkFacts, trace
from tests.agent.test_topology import NODES, OTHER, PUBLISHED
from wgpy.protocol.config import Endpoint, InterfaceStats, PeerStats

SOURCE, TARGET = ip_address("10.244.1.5"), ip_address("10.244.2.7")
GATEWAY = ip_address("10.244.2.1")
AT = ip_address("192.0.2.2")
LANES = ("wgpy0", "wgpy1")
KNOWN = Known("node-1", LANES, survey("node-1", shares(NODES), PUBLISHED))
REACHED, SILENCE = Answer("reached", 0.001), Answer("silence", 1.0)
PEER = PeerStats(
    OTHER.lanes[0].public_key,
    endpoint=Endpoint("192.0.2.2", 51871),
    allowed_ips=(ip_network("10.244.2.0/24"), ip_network("192.0.2.2/32")),
)
ALL = dict.fromkeys(STAGES, 3)


@dataclass
class FakeHost:
    """A host on which everything is well, but for what a test says."""

    attached: bool = True
    links: dict[str, LinkFacts] = field(default_factory=dict)
    missing: frozenset[str] = frozenset()
    neighbour: bool = True
    forwarding: bool = True
    routes: dict[Address, tuple[str | None, str]] = field(default_factory=dict)
    peers: tuple[PeerStats, ...] | None = (PEER,)
    answers: dict[Address, Answer] = field(default_factory=dict)
    # Bytes of the largest packet that comes through.
    largest: int = 1420
    followed: dict[Address, Followed | None] = field(default_factory=dict)
    # Of the other agent, before and after.
    heard_there: list[Heard | None] = field(default_factory=lambda: [None, None])
    # What comes back to us meanwhile.
    came_back: int = 0

    def attachment(self, pod: Address) -> Attachment | None:
        return Attachment("veth1", "02:00:00:00:00:01", (pod,)) if self.attached else None

    def link(self, name: str) -> LinkFacts | None:
        master = "wgpy-pods" if name == "veth1" else None
        return None if name in self.missing else self.links.get(name, LinkFacts(True, True, master))

    def is_neighbour(self, address: Address) -> bool:
        return self.neighbour

    def forwards(self, version: int) -> bool:
        return self.forwarding

    def route(self, target: Address, pod: Address | None = None) -> tuple[str | None, str]:
        device = "eth0" if pod is None else "wgpy0"
        return self.routes.get(target, (device, f"dev {device}"))

    def device(self, name: str) -> InterfaceStats | None:
        if self.peers is None:
            return None
        found = InterfaceStats(peers=self.peers)
        later = (replace(peer, rx_bytes=peer.rx_bytes + self.came_back) for peer in self.peers)
        self.peers = tuple(later)
        return found

    def age(self, peer: PeerStats) -> float | None:
        return 5.0

    def ask(self, address: Address, size: int = SMALL, timeout: float = 1.0) -> Answer:
        return self.answers.get(address, REACHED) if size <= self.largest else SILENCE

    def path_mtu(self, address: Address) -> int:
        return 1420

    def follow(self, source: Address, target: Address) -> Followed | None:
        return self.followed.get(source, Followed(ALL, {}))

    def heard(self, endpoint: Address, lane: int) -> Heard | None:
        assert (endpoint, lane) == (AT, 0)
        return self.heard_there.pop(0)


def hops(host: FakeHost, known: Known = KNOWN, target: Address = TARGET) -> list[Hop]:
    return list(trace(host, known, SOURCE, target))


def test_a_good_way_has_every_hop_and_no_error() -> None:
    found = hops(FakeHost())
    assert {hop.verdict for hop in found} == {"ok"}
    assert " ".join(hop.name for hop in found) == (
        "pod veth bridge route filter lane endpoint underlay other lane other pod way back"
    )


def test_it_works_without_an_api_server() -> None:
    found = hops(FakeHost(), Known("node-1", LANES))
    assert {hop.verdict for hop in found} == {"ok"}


DOWN = LinkFacts(False, False, None)
FAR_AWAY = replace(PEER, endpoint=Endpoint("192.0.2.66", 51871))
STRANGER = replace(PEER, public_key=b"x" * 32)
BROKEN = {
    "no such pod": (FakeHost(attached=False), "pod", "no pod of this node has"),
    "veth gone": (FakeHost(missing=frozenset({"veth1"})), "veth", "veth1 is not there"),
    "veth down": (FakeHost(links={"veth1": DOWN}), "veth", "veth1 is down"),
    "veth dangling": (
        FakeHost(links={"veth1": LinkFacts(True, False, "wgpy-pods")}),
        "veth",
        "has nobody at its other end",
    ),
    "veth elsewhere": (
        FakeHost(links={"veth1": LinkFacts(True, True, "docker0")}),
        "veth",
        "is not on the bridge",
    ),
    "bridge gone": (FakeHost(missing=frozenset({"wgpy-pods"})), "bridge", "is not there"),
    "pod not on its wire": (
        FakeHost(answers={SOURCE: SILENCE}, neighbour=False),
        "bridge",
        "nobody on wgpy-pods",
    ),
    "no forwarding": (FakeHost(forwarding=False), "route", "does not forward IPv4"),
    "no route": (FakeHost(routes={TARGET: (None, "No route to host")}), "route", "No route"),
    "leak": (FakeHost(routes={TARGET: ("eth0", "dev eth0")}), "route", "leaves by eth0"),
    "lane down": (
        FakeHost(routes={TARGET: (None, "none")}, links={"wgpy0": DOWN}),
        "lane",
        "wgpy0 is down",
    ),
    "spoofed": (
        FakeHost(followed={SOURCE: Followed(dict.fromkeys(STAGES, 0), {"pod_spoof": 3})}),
        "filter",
        "our own filter: pod_spoof 3",
    ),
    "forward policy": (
        FakeHost(followed={SOURCE: Followed(ALL | {"passed": 0, "left": 0}, {})}),
        "filter",
        "where they are forwarded, by a rule of somebody else",
    ),
    "no answer of the device": (FakeHost(peers=None), "lane", "does not answer"),
    "no peer": (FakeHost(peers=()), "lane", "has no peer"),
    "old key": (FakeHost(peers=(STRANGER,)), "lane", "has another key"),
    "no way to the endpoint": (
        FakeHost(routes={AT: (None, "Network is unreachable")}),
        "endpoint",
        "no way to the endpoint",
    ),
    "nobody asked": (
        FakeHost(answers={GATEWAY: SILENCE}),
        "underlay",
        "the agent there cannot be asked",
    ),
    "lost on the way": (
        FakeHost(answers={GATEWAY: SILENCE}, heard_there=[Heard(9, 9), Heard(73, 73)]),
        "underlay",
        "nothing of it has come",
    ),
    "answers lost": (
        FakeHost(answers={GATEWAY: SILENCE}, heard_there=[Heard(9, 9), Heard(299, 399)]),
        "underlay",
        "the 390 in answer are lost",
    ),
    "swallowed there": (
        FakeHost(
            answers={GATEWAY: SILENCE},
            heard_there=[Heard(9, 9), Heard(299, 399)],
            came_back=500,
        ),
        "other lane",
        "290 bytes came out of the other lane",
    ),
    "large ones lost": (FakeHost(largest=1300), "underlay", "of 1420 do not"),
    "no bridge there": (
        FakeHost(answers={TARGET: Answer("unreachable", 0.002)}),
        "other bridge",
        "node node-2 says at once",
    ),
    "no such pod there": (
        FakeHost(answers={TARGET: Answer("unreachable", 3.1)}),
        "other pod",
        "node node-2 has looked on its bridge",
    ),
    "silent pod": (FakeHost(answers={TARGET: SILENCE}), "other pod", "does not answer"),
    "way back": (
        FakeHost(followed={TARGET: Followed(ALL | {"passed": 0, "left": 0}, {})}),
        "way back",
        "by a rule of somebody else",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_the_hop_that_is_broken_is_the_last_one(what: str) -> None:
    host, name, why = BROKEN[what]
    *before, last = hops(host)
    assert (last.name, last.verdict) == (name, "error")
    assert why in last.what
    assert "error" not in {hop.verdict for hop in before}


def test_an_endpoint_that_is_not_the_published_one_counts_when_nothing_comes() -> None:
    astray = Heard(0, 0)
    host = FakeHost(peers=(FAR_AWAY,))
    host.heard = lambda endpoint, lane: astray  # type: ignore[method-assign]
    (told,) = [hop for hop in hops(host) if hop.name == "endpoint"]
    assert told.verdict == "warning"
    assert told.what.endswith("but node-2 says that it is at 192.0.2.2")
    host.answers[GATEWAY] = SILENCE
    *_, last = hops(host)
    assert (last.name, last.verdict) == ("endpoint", "error")


def test_a_target_of_no_node_and_a_source_of_another() -> None:
    *_, last = hops(FakeHost(), target=ip_address("203.0.113.1"))
    assert last.what == "203.0.113.1 is in no node's pod CIDR"
    (only,) = trace(FakeHost(attached=False), KNOWN, TARGET, SOURCE)
    assert only.advice == "run this in the agent's pod on node node-2"


def test_a_pod_that_says_nothing_is_no_error_here() -> None:
    found = hops(FakeHost(answers={SOURCE: SILENCE}))
    assert [hop.name for hop in found if hop.verdict == "warning"] == ["bridge"]
    assert "filter" not in [hop.name for hop in found]


def test_a_complaint_of_the_other_agent_is_told_on_the_way() -> None:
    known = replace(KNOWN, complaints={"node-2": "no session with node-3"})
    found = hops(FakeHost(), known)
    (told,) = [hop for hop in found if hop.verdict == "warning"]
    assert told.what == "the agent of node-2 says: no session with node-3"
    assert found[-1].name == "way back"
