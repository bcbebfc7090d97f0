"""Objects of any kind with versions, and what happened to them since: an API server's memory.

No schemas. A *collection* is a path such as /api/v1/nodes; objects are told apart by name in it.
"""

from collections import deque
from collections.abc import Callable
from copy import deepcopy
from typing import Any
from uuid import uuid4

Json = dict[str, Any]


class Refused(Exception):
    """What cannot be done, with the HTTP status and reason that say so."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class Store:
    """What is handed out is a copy, so that nobody alters what is kept."""

    def __init__(self, now: Callable[[], str], history: int) -> None:
        """`now`: RFC 3339; `history`: how many events a watch may lag behind."""
        self._now = now
        self._collections: dict[str, dict[str, Json]] = {}
        self._events: deque[tuple[int, str, str, Json]] = deque(maxlen=history)
        self.version = 0
        self.changed: Callable[[], None] = lambda: None
        """Called after each change."""

    def get(self, collection: str, name: str) -> Json:
        """Refused: there is none."""
        try:
            return deepcopy(self._collections[collection][name])
        except KeyError:
            raise Refused(404, "NotFound", f"{collection}/{name} not found") from None

    def find(self, collection: str) -> list[Json]:
        found = self._collections.get(collection, {})
        return [deepcopy(found[name]) for name in sorted(found)]

    def create(self, collection: str, body: Json) -> Json:
        """Refused: there is one already."""
        name = name_of(body)
        if name in self._collections.get(collection, {}):
            raise Refused(409, "AlreadyExists", f"{collection}/{name} already exists")
        return self._put("ADDED", collection, self._fresh(body))

    def merge(self, collection: str, name: str, patch: Json) -> Json:
        """RFC 7386. Refused: there is none."""
        return self._replace(collection, merged(self.get(collection, name), patch))

    def apply(self, collection: str, name: str, body: Json, *, dry_run: bool = False) -> Json:
        """Server-side apply by managers that own whole sections (spec, data): each is replaced.

        Of the metadata labels, annotations and owners are. A status is left out.
        """
        body = {key: value for key, value in body.items() if key != "status"}
        before = self._collections.get(collection, {}).get(name)
        if before is None:
            made = self._fresh({**body, "metadata": {**body.get("metadata", {}), "name": name}})
            return made if dry_run else self._put("ADDED", collection, made)
        metadata = {**before["metadata"], **body.get("metadata", {}), "name": name}
        after = deepcopy({**before, **body, "metadata": metadata})
        return after if dry_run else self._replace(collection, after)

    def apply_status(self, collection: str, name: str, body: Json) -> Json:
        """The status alone. Refused: there is no such object."""
        before = self.get(collection, name)
        return self._replace(collection, {**before, "status": deepcopy(body.get("status", {}))})

    def delete(self, collection: str, name: str) -> Json:
        """Refused: there is none. What it owns stays, as it does without a garbage collector."""
        gone = self.get(collection, name)
        del self._collections[collection][name]
        self._note("DELETED", collection, gone)
        return gone

    def since(self, version: int, collection: str) -> tuple[list[Json], int]:
        """What happened after `version`, as a watch tells it, and up to which version.

        Refused: it is no longer known.
        """
        oldest = self._events[0][0] if self._events else self.version + 1
        if version + 1 < oldest:
            raise Refused(410, "Expired", f"too old resource version: {version} ({oldest})")
        events = [
            {"type": kind, "object": deepcopy(what)}
            for at, kind, where, what in self._events
            if at > version and where == collection
        ]
        return events, self.version

    def _fresh(self, body: Json) -> Json:
        given = {"uid": str(uuid4()), "creationTimestamp": self._now()}
        return deepcopy({**body, "metadata": {**body["metadata"], **given}})

    def _replace(self, collection: str, after: Json) -> Json:
        before = self._collections[collection][name_of(after)]
        # What changes nothing is no news.
        return after if after == before else self._put("MODIFIED", collection, after)

    def _put(self, kind: str, collection: str, one: Json) -> Json:
        self._collections.setdefault(collection, {})[name_of(one)] = one
        self._note(kind, collection, one)
        return deepcopy(one)

    def _note(self, kind: str, collection: str, one: Json) -> None:
        self.version += 1
        one["metadata"]["resourceVersion"] = str(self.version)
        self._events.append((self.version, kind, collection, deepcopy(one)))
        self.changed()


def name_of(body: Json) -> str:
    """Refused: it has none."""
    metadata = body.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not name:
        raise Refused(422, "Invalid", "metadata.name is missing")
    return name


def merged(target: Any, patch: Any) -> Any:
    """A JSON merge patch (RFC 7386): null removes, objects are merged, all else is replaced."""
    if not isinstance(patch, dict):
        return deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result
