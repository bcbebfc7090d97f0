"""What `kubectl apply -k` would send: as much of kustomize as our manifests use, and no more."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

MANIFESTS = Path(__file__).parents[2] / "agent" / "manifests"
BASES = ("generic", "kubeadm", "k3s")
Json = dict[str, Any]
_KNOWN = {"apiVersion", "kind", "resources", "patches"}


def build(directory: Path) -> list[Json]:
    """All objects of a kustomization."""
    told = yaml.safe_load((directory / "kustomization.yaml").read_text())
    assert set(told) <= _KNOWN, f"{directory}: not known here: {set(told) - _KNOWN}"
    objects: list[Json] = []
    for name in told["resources"]:
        path = directory / name
        if path.is_dir():
            objects += build(path.resolve())
        else:
            # Anchors make one value appear in several places.
            objects += copy.deepcopy(list(yaml.safe_load_all(path.read_text())))
    for patch in told.get("patches", ()):
        _patch(_target(objects, patch["target"]), yaml.safe_load(patch["patch"]))
    return objects


def find(objects: list[Json], kind: str, name: str) -> Json:
    return _target(objects, {"kind": kind, "name": name})


def _target(objects: list[Json], target: Json) -> Json:
    (found,) = (
        one
        for one in objects
        if one["kind"] == target["kind"] and one["metadata"]["name"] == target["name"]
    )
    return found


def _patch(value: Json, patch: list[Json] | Json) -> None:
    if isinstance(patch, dict):
        _merge(value, patch)
        return
    for step in patch:
        assert step["op"] == "add"
        assert step["path"].endswith("/-")
        place: Any = value
        for part in step["path"].split("/")[1:-1]:
            place = place[int(part) if isinstance(place, list) else part]
        place.append(step["value"])


def _merge(value: Json, patch: Json) -> None:
    for key, new in patch.items():
        old = value.get(key)
        if isinstance(new, dict) and isinstance(old, dict):
            _merge(old, new)
        elif isinstance(new, list) and isinstance(old, list):
            for one in new:
                _merge(next(o for o in old if o["name"] == one["name"]), one)
        else:
            value[key] = new
