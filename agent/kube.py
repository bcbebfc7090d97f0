"""The cluster as this node's agent sees it, and what it writes there.

All that it writes is its own: one WireGuardNode, and Events about its own Node.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

import yaml

from agent.apierrors import ForbiddenError, InvalidError
from agent.apiserver import Json
from agent.echo import Echo
from agent.events import COMPONENT, Events, Kind
from agent.model import GROUP, KIND, PLURAL, VERSION, NodeFacts, Problem, WireGuardNode
from agent.watch import Cache, Pace, Source

MANAGER = COMPONENT
NODES = "/api/v1/nodes"
PUBLISHED = f"/apis/{GROUP}/{VERSION}/{PLURAL}"
_KUBEADM = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"
_MAX_NAME = 253


class Api(Source, Protocol):
    """What agent.apiserver.ApiServer offers."""

    async def create(self, path: str, body: Json) -> Json: ...

    async def merge(self, path: str, body: Json) -> Json: ...

    async def apply(
        self, path: str, body: Json, manager: str, *, dry_run: bool = False
    ) -> Json: ...


class Kube:
    """Caches of what all nodes say, and the writer of what this one says."""

    def __init__(
        self,
        api: Api,
        node: str,
        changed: Callable[[], None],
        new_pace: Callable[[], Pace],
        now: Callable[[], float],
    ) -> None:
        """`changed` is called after each change of the caches; `now` is the wall clock."""

        def heard() -> None:
            self._own.hear(self._published.items.get(node))
            changed()

        pace = new_pace()
        self._own: Echo[WireGuardNode] = Echo(pace.clock)
        self._api = api
        self._node = node
        self._events = Events(api, node, now)
        self._nodes = Cache(api, "Node", NODES, NodeFacts.from_object_untrusted, changed, pace)
        self._published = Cache(
            api, KIND, PUBLISHED, WireGuardNode.from_object_untrusted, heard, new_pace()
        )
        self._applied_status: Json | None = None

    async def run(self) -> None:
        """Keep the caches up to date until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            for cache in (self._nodes, self._published):
                group.create_task(cache.run())

    @property
    def synced(self) -> bool:
        """All caches have been filled once; before, what is missing may only be unknown."""
        return self._nodes.synced and self._published.synced

    @property
    def connected(self) -> bool:
        """No cache is without its watch just now."""
        failures = (self._nodes.failure, self._published.failure)
        return self.synced and failures == (None, None)

    @property
    def problems(self) -> list[Problem]:
        found = [*self._nodes.problems, *self._published.problems]
        return list(dict.fromkeys(found))

    @property
    def nodes(self) -> Mapping[str, NodeFacts]:
        return self._nodes.items

    @property
    def published(self) -> Mapping[str, WireGuardNode]:
        """By node, our own among them."""
        return self._published.items

    @property
    def confirmed(self) -> WireGuardNode | None:
        """Own object as the API has it."""
        return self._own.now

    async def publish(self, wanted: WireGuardNode) -> str:
        """Make the own object so; a sentence if somebody had altered it. KubeError."""
        before, altered = self.confirmed, self._own.last == wanted
        if before == wanted:
            return ""
        await self._api.apply(self._own_path(), wanted.to_object(self._own_uid()), MANAGER)
        self._own.wrote(wanted)
        if before is None:
            # Its status went with it.
            self._applied_status = None
        if not altered:
            return ""
        return f"{KIND} {self._node} was {'missing' if before is None else 'another'}"

    async def set_status(self, status: Json) -> None:
        """The own object's status; nothing if it was told so already. KubeError."""
        if status == self._applied_status:
            return
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "metadata": {"name": self._node},
            "status": status,
        }
        # A manager of its own: to servers before 1.22 the spec would be withdrawn by this.
        await self._api.apply(f"{self._own_path()}/status", body, f"{MANAGER}-status")
        self._applied_status = status

    async def tell(self, kind: Kind, reason: str, message: str) -> None:
        """An Event about the own Node; never raises KubeError."""
        own = self.nodes.get(self._node)
        await self._events.tell(kind, reason, message, own.uid if own else "")

    async def kubeadm_pod_ranges(self) -> list[str]:
        """The cluster's pod ranges as kubeadm was told, IPv4 or IPv6. KubeError."""
        told = await self._api.get(_KUBEADM)
        try:
            cluster = yaml.safe_load(told["data"]["ClusterConfiguration"])
            ranges = str(cluster["networking"]["podSubnet"]).split(",")
        except (KeyError, TypeError, yaml.YAMLError):
            advice = "give --overlay RANGE instead"
            raise InvalidError("it has no networking.podSubnet", _KUBEADM, advice) from None
        return [one.strip() for one in ranges]

    async def may_write_for_others(self) -> bool:
        """Whether the API server would take an object of ours in another node's name. KubeError.

        Nothing is written; the own object must have been.
        """
        own = self.confirmed
        if own is None:
            raise InvalidError("it has not been published yet", f"{KIND} {self._node}")
        other = replace(own, name=f"not-{self._node}"[:_MAX_NAME])
        body = other.to_object(self._own_uid())
        try:
            await self._api.apply(f"{PUBLISHED}/{other.name}", body, MANAGER, dry_run=True)
        except ForbiddenError:
            return False
        return True

    def _own_path(self) -> str:
        return f"{PUBLISHED}/{self._node}"

    def _own_uid(self) -> str:
        own = self.nodes.get(self._node)
        if own is None:
            advice = "see whether NODE_NAME is the name of this node in Kubernetes"
            raise InvalidError("there is no such Node", f"Node {self._node}", advice)
        return own.uid
