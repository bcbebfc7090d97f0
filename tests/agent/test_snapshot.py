"""What an agent tells of itself."""

from __future__ import annotations

import json
from dataclasses import replace

from agent.model import Problem
from agent.snapshot import kubernetes_status
from tests.agent.kustomize import MANIFESTS, build, find
from tests.agent.snapshots import PRIVATE, PSK, snapshot

_T1, _T2 = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"


def test_a_peer_is_ready_with_a_live_session_on_the_lane_of_its_routes() -> None:
    far, near = snapshot().peers
    assert (near.name, near.ready) == ("near", True)
    assert (far.name, far.ready) == ("far", False)
    (lane,) = near.lanes
    assert (lane.handshake_age, lane.endpoint) == (7.0, "[fd00::1]:51871")
    assert snapshot().ready_peers == 1


def test_a_lane_is_up_when_its_device_has_its_key() -> None:
    home, spare = snapshot().lanes
    assert (home.up, home.drops) == (True, {"replay": 4})
    assert not spare.up


def test_no_secret_is_told() -> None:
    told = json.dumps(snapshot().to_object()) + repr(snapshot())
    for secret in (PRIVATE, PSK):
        assert bytes(secret).decode() not in told
        assert "Secret" not in told


def test_a_status_fits_the_schema_of_the_definition() -> None:
    crd = find(build(MANIFESTS / "crd"), "CustomResourceDefinition", "wireguardnodes.wgpy.io")
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    status = kubernetes_status(snapshot(), None, _T1)
    assert set(status) == set(schema["properties"])
    for part in ("peers", "rotation"):
        assert set(status[part]) == set(schema["properties"][part]["properties"])
    condition = schema["properties"]["conditions"]["items"]
    assert set(status["conditions"][0]) == set(condition["properties"])


def test_the_condition_says_what_is_wrong_in_the_order_of_weight() -> None:
    def reason(**changes: object) -> tuple[str, str]:
        told = replace(snapshot(), **changes)  # type: ignore[arg-type]
        condition = kubernetes_status(told, None, _T1)["conditions"][0]
        return condition["status"], condition["reason"]

    up = tuple(replace(lane, up=True) for lane in snapshot().lanes)
    ready = tuple(replace(peer, ready=True) for peer in snapshot().peers)
    assert reason(problems=(Problem("error", "bad"),)) == ("False", "Problems")
    assert reason() == ("False", "LanesDown")
    assert reason(lanes=up) == ("False", "PeersMissing")
    assert reason(lanes=up, peers=ready) == ("True", "AllPeers")


def test_a_message_is_never_longer_than_some_problems() -> None:
    problems = tuple(Problem("error", f"problem {n}") for n in range(1000))
    told = replace(snapshot(), problems=problems)
    message = kubernetes_status(told, None, _T1)["conditions"][0]["message"]
    assert message.endswith("problem 4; and 995 more")


def test_the_time_of_a_condition_changes_only_with_its_status() -> None:
    first = kubernetes_status(snapshot(), None, _T1)
    assert kubernetes_status(snapshot(), first, _T2) == first
    up = tuple(replace(lane, up=True) for lane in snapshot().lanes)
    ready = tuple(replace(peer, ready=True) for peer in snapshot().peers)
    well = kubernetes_status(replace(snapshot(), lanes=up, peers=ready), first, _T2)
    assert well["conditions"][0]["lastTransitionTime"] == _T2
