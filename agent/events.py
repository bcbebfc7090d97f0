"""Events on the Node, for what an operator must see. Their loss is no failure of the agent's."""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, Protocol, TypeAlias

from agent.apierrors import KubeError, NotFoundError
from agent.apiserver import Json

_log = logging.getLogger(__name__)

Kind: TypeAlias = Literal["Normal", "Warning"]
COMPONENT = "wgpy-agent"
# Where Kubernetes keeps Events of what is in no namespace.
NAMESPACE = "default"
_PATH = f"/api/v1/namespaces/{NAMESPACE}/events"
# Of one series, seconds between two writes.
_QUIET = 60.0
# Series known at once, and writes in `_QUIET` seconds: a storm here is no storm at the API server.
_SERIES = 128
_WRITES = 20
_MAX_MESSAGE = 1024


class Writer(Protocol):
    """What Events need of agent.apiserver.ApiServer."""

    async def create(self, path: str, body: Json) -> Json: ...

    async def merge(self, path: str, body: Json) -> Json: ...


@dataclass(frozen=True, slots=True)
class _Series:
    """The same thing again and again is one Event with a count."""

    name: str
    first: float
    written: float
    count: int = 1


class Events:
    """Of one agent about its own Node."""

    def __init__(self, api: Writer, node: str, now: Callable[[], float]) -> None:
        """`now`: the wall clock, seconds since 1970."""
        self._api = api
        self._node = node
        self._now = now
        self._series: OrderedDict[tuple[str, str, str], _Series] = OrderedDict()
        self._writes: list[float] = []

    async def tell(self, kind: Kind, reason: str, message: str, node_uid: str) -> None:
        """`reason` in CamelCase. Never raises: what cannot be written is logged."""
        message = message[:_MAX_MESSAGE]
        key, now = (kind, reason, message), self._now()
        known = self._series.get(key)
        if known is not None and now - known.written < _QUIET:
            self._series[key] = replace(known, count=known.count + 1)
            return
        self._writes = [at for at in self._writes if now - at < _QUIET]
        if len(self._writes) >= _WRITES:
            _log.warning("too many events at once, one is left out: %s: %s", reason, message)
            return
        self._writes.append(now)
        try:
            self._series[key] = await self._write(key, known, now, node_uid)
        except KubeError as error:
            _log.warning("event %s is lost: %s", reason, error)
        self._series.move_to_end(key) if key in self._series else None
        while len(self._series) > _SERIES:
            self._series.popitem(last=False)

    async def _write(
        self, key: tuple[str, str, str], known: _Series | None, now: float, node_uid: str
    ) -> _Series:
        if known is not None:
            again = replace(known, written=now, count=known.count + 1)
            changes = {"count": again.count, "lastTimestamp": _time(now)}
            try:
                await self._api.merge(f"{_PATH}/{known.name}", changes)
                return again
            except NotFoundError:
                pass  # Events live for an hour.
        # Unique as client-go makes it.
        series = _Series(f"{self._node}.{int(now * 1e9):x}", now, now)
        await self._api.create(_PATH, self._event(series, key, node_uid))
        return series

    def _event(self, series: _Series, key: tuple[str, str, str], node_uid: str) -> Json:
        kind, reason, message = key
        about = {"apiVersion": "v1", "kind": "Node", "name": self._node, "uid": node_uid}
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": series.name, "namespace": NAMESPACE},
            "involvedObject": about,
            "type": kind,
            "reason": reason,
            "message": message,
            "source": {"component": COMPONENT, "host": self._node},
            "firstTimestamp": _time(series.first),
            "lastTimestamp": _time(series.written),
            "count": series.count,
        }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
