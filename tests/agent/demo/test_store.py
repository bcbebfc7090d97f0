"""What the demo's API server remembers."""

from __future__ import annotations

from typing import Any

import pytest

from agent.demo.store import Refused, Store, merged

_PATH = "/api/v1/things"


def store(history: int = 10) -> Store:
    return Store(lambda: "2026-01-01T00:00:00Z", history)


def thing(name: str = "one", **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, **more}


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    # The examples of RFC 7386, appendix A.
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch(target: Any, patch: Any, result: Any) -> None:
    assert merged(target, patch) == result


def test_what_is_handed_out_is_a_copy() -> None:
    kept = store()
    made = kept.create(_PATH, thing(spec={"a": [1]}))
    made["spec"]["a"].append(2)
    kept.find(_PATH)[0]["spec"]["a"].append(3)
    kept.since(0, _PATH)[0][0]["object"]["spec"]["a"].append(4)
    assert kept.get(_PATH, "one")["spec"] == {"a": [1]}
    assert kept.since(0, _PATH)[0][0]["object"]["spec"] == {"a": [1]}


def test_a_change_wakes_and_what_changes_nothing_does_not() -> None:
    kept, woken = store(), []
    kept.changed = lambda: woken.append(kept.version)
    kept.create(_PATH, thing())
    kept.apply(_PATH, "one", thing())
    kept.merge(_PATH, "one", {})
    assert woken == [1]
    kept.delete(_PATH, "one")
    assert woken == [1, 2]


def test_of_what_was_forgotten_nothing_is_told() -> None:
    kept = store(history=2)
    for name in "abc":
        kept.create(_PATH, thing(name))
    told, version = kept.since(1, _PATH)
    assert [event["object"]["metadata"]["name"] for event in told] == ["b", "c"]
    assert version == 3
    with pytest.raises(Refused) as caught:
        kept.since(0, _PATH)
    assert (caught.value.status, caught.value.reason) == (410, "Expired")


@pytest.mark.parametrize("body", [{}, {"metadata": 1}, {"metadata": {"name": ""}}])
def test_what_has_no_name_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        store().create(_PATH, body)
    assert caught.value.status == 422
