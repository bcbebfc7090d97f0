"""One pass of the agent without its I/O: from what was read to what is to be done. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.adopt import adopt, device_facts
from agent.keys import KeyRing
from agent.lanefacts import Facts, Plan, Timing
from agent.lanes import Lanes
from agent.model import Address, NodeFacts, WireGuardNode
from agent.prefixes import Prefixes
from agent.topology import Cluster, Desired, desire, shares, survey
from wgpy.protocol.config import InterfaceStats, Network

Devices = tuple[InterfaceStats | None, InterfaceStats | None]


@dataclass(frozen=True, slots=True)
class Identity:
    """What this agent is and was told, for as long as it runs."""

    name: str
    ports: tuple[int, int] = (51871, 51872)
    # The cluster's pod ranges, as far as they are configured.
    overlay: tuple[Network, ...] = ()
    backend: str = ""
    agent_version: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """The caches, all of them in sync, and what the kernel said just now."""

    nodes: Mapping[str, NodeFacts]
    published: Mapping[str, WireGuardNode]
    devices: Devices
    # By prefix, the lane of our route in the kernel.
    routes: Mapping[Network, int]
    # Own object as the API has confirmed it.
    confirmed: WireGuardNode | None
    # Inner MTU of the path to each endpoint.
    mtus: Mapping[Address, int]


@dataclass(frozen=True, slots=True)
class Decision:
    """To be done in this order: the lanes' devices, the rest of `desired`, `publish`.

    `publish` only when the devices have been done: nobody may hear of keys that are not there.
    """

    plan: Plan
    desired: Desired
    publish: WireGuardNode


class Decisions:
    """This node's part, from the first pass of an agent to its end."""

    def __init__(
        self,
        identity: Identity,
        random: Callable[[int], bytes],
        devices: Devices,
        published: WireGuardNode | None,
        timing: Timing | None = None,
    ) -> None:
        """Adopts `devices` as far as `published`, the own object in the API, knows their keys."""
        self._identity = identity
        self._ring = KeyRing(random)
        self._timing = timing or Timing()
        adopted = adopt(self._ring, published, devices)
        self.lanes = Lanes(
            lambda lane, epoch: self._ring.generate(identity.ports[lane], epoch),
            adopted,
            published,
            self._timing,
        )
        self._shares = shares({}, identity.overlay)
        self._published: Mapping[str, WireGuardNode] = {}
        self._cluster = survey(identity.name, self._shares, {})

    def decide(self, now: float, now_ns: int, known: Known) -> Decision:
        """`now` of any clock, seconds; `now_ns` of the wall clock, for the age of handshakes."""
        identity = self._identity
        cluster = self._survey(known)
        home, spare = (device_facts(stats, now_ns) for stats in known.devices)
        plan = self.lanes.step(
            now,
            Facts(
                (home, spare), peer_routes(cluster, known.routes), known.confirmed, cluster.peers
            ),
        )
        self._ring.forget_except(
            {keys.public_key for keys in plan.lanes},
            {keys.public_key for peer in cluster.peers.values() for keys in peer.lanes},
        )
        desired = desire(cluster, plan, self._ring, self._timing, known.mtus)
        own = known.nodes.get(identity.name)
        publish = WireGuardNode(
            identity.name,
            plan.lanes,
            plan.active_lane,
            own.internal_ips if own else (),
            identity.backend,
            identity.agent_version,
        )
        return Decision(plan, desired, publish)

    def _survey(self, known: Known) -> Cluster:
        """Anew only what has changed: most of a pass among many nodes is this."""
        if known.nodes != self._shares.nodes:
            self._shares = shares(known.nodes, self._identity.overlay)
        elif known.published == self._published:
            return self._cluster
        self._published = known.published
        self._cluster = survey(
            self._identity.name, self._shares, known.published, self._cluster.peers
        )
        return self._cluster


def peer_routes(cluster: Cluster, routes: Mapping[Network, int]) -> dict[str, int]:
    """By peer, the lane of its routes; the spare where they are not all on one.

    A change of several routes may fail half-way, and home is where nothing is lost by waiting.
    """
    found = {}
    for name in cluster.peers:
        owned = cluster.prefixes.get(name, Prefixes())
        lanes = {routes[prefix] for prefix in (*owned.pods, *owned.nodes) if prefix in routes}
        if lanes:
            found[name] = max(lanes)
    return found
