"""The cluster as one agent sees it, and what it writes there."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Awaitable, Callable

import pytest

from agent.apierrors import ForbiddenError, InvalidError
from agent.apiserver import Json
from agent.kube import NODES, PUBLISHED, Kube
from agent.model import (
    Halves,
    LaneKeys,
    SealedHalf,
    WireGuardNode,
    halves_to_object,
    secret_name,
)
from tests.agent.fakeapi import FakeApi, FakeTime, settle

SECRETS = "/api/v1/namespaces/ns/secrets"
HALVES: Halves = (SealedHalf(1, 2, b"sealed"), None)


def node(name: str) -> Json:
    return {"metadata": {"name": name, "uid": f"uid-{name}"}, "spec": {"podCIDR": "10.1.0.0/24"}}


def published(name: str, epoch: int = 1) -> WireGuardNode:
    first, second = (LaneKeys(bytes([n] * 32), bytes([n] * 32), 5000 + n, epoch) for n in (1, 2))
    return WireGuardNode(name, (first, second), backend="kernel")


def secret(writer: str, data: Json) -> Json:
    return {"metadata": {"name": secret_name(writer)}, "data": data}


def encoded(halves: Halves) -> str:
    return b64encode(json.dumps(halves_to_object(halves)).encode()).decode()


class Rig:
    def __init__(self) -> None:
        self.api, self.time, self.changes = FakeApi(page=100), FakeTime(), 0
        self.kube = Kube(self.api, "me", "ns", self.changed, self.time.pace, lambda: self.time.now)
        self.api.put(f"{NODES}/me", node("me"))

    def changed(self) -> None:
        self.changes += 1


def play(scene: Callable[[Rig], Awaitable[None]]) -> None:
    async def run() -> None:
        rig = Rig()
        task = asyncio.create_task(rig.kube.run())
        try:
            await settle()
            await scene(rig)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


def test_nothing_is_in_sync_before_all_caches_are() -> None:
    async def run() -> None:
        rig = Rig()
        assert not rig.kube.synced
        task = asyncio.create_task(rig.kube.run())
        await settle()
        assert rig.kube.synced
        assert rig.kube.connected
        assert rig.changes >= 3
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


def test_what_is_published_comes_back_confirmed_and_is_not_written_twice() -> None:
    async def scene(rig: Rig) -> None:
        assert rig.kube.confirmed is None
        assert await rig.kube.publish(published("me")) == ""
        await settle()
        assert rig.kube.confirmed == published("me")
        assert await rig.kube.publish(published("me")) == ""
        ((manager, path, body),) = rig.api.written
        assert (manager, path) == ("wgpy-agent", f"{PUBLISHED}/me")
        assert body["metadata"]["ownerReferences"][0]["uid"] == "uid-me"

    play(scene)


def test_an_own_object_that_others_have_altered_is_written_again() -> None:
    async def scene(rig: Rig) -> None:
        await rig.kube.publish(published("me"))
        rig.api.put(f"{PUBLISHED}/me", published("me", 7).to_object("uid-me"))
        await settle()
        assert await rig.kube.publish(published("me")) == "WireGuardNode me was another"
        rig.api.remove(f"{PUBLISHED}/me")
        await settle()
        assert await rig.kube.publish(published("me")) == "WireGuardNode me was missing"

    play(scene)


def test_nothing_is_published_for_a_node_that_does_not_exist() -> None:
    async def scene(rig: Rig) -> None:
        rig.api.remove(f"{NODES}/me")
        await settle()
        with pytest.raises(InvalidError, match="NODE_NAME"):
            await rig.kube.publish(published("me"))
        assert not rig.api.written

    play(scene)


def test_of_others_halves_only_those_for_us_are_kept() -> None:
    async def scene(rig: Rig) -> None:
        data = {"me": encoded(HALVES), "else": "not even base64"}
        rig.api.put(f"{SECRETS}/wgpy-b", secret("b", data))
        rig.api.put(f"{SECRETS}/wgpy-c", secret("c", {"else": encoded(HALVES)}))
        rig.api.put(f"{SECRETS}/other", {"metadata": {"name": "other"}, "data": data})
        await settle()
        assert rig.kube.halves == {"b": HALVES}
        assert not rig.kube.problems

    play(scene)


@pytest.mark.parametrize("value", ["", "*", 3, b64encode(b"{").decode(), b64encode(b"1").decode()])
def test_halves_that_make_no_sense_are_a_problem(value: object) -> None:
    async def scene(rig: Rig) -> None:
        rig.api.put(f"{SECRETS}/wgpy-b", secret("b", {"me": value}))
        await settle()
        assert rig.kube.halves == {}
        (problem,) = rig.kube.problems
        assert problem.what.startswith("Secret wgpy-b: ")

    play(scene)


def test_own_halves_are_written_once_and_again_when_altered() -> None:
    async def scene(rig: Rig) -> None:
        wanted = {"b": HALVES}
        assert await rig.kube.publish_halves(wanted) == ""
        await settle()
        assert await rig.kube.publish_halves(wanted) == ""
        (_, path, body) = rig.api.written[-1]
        assert path == f"{SECRETS}/wgpy-me"
        assert body["metadata"]["labels"] == {"wgpy.io/node": "me"}
        assert body["metadata"]["ownerReferences"][0]["uid"] == "uid-me"
        assert rig.kube.halves == {}
        rig.api.put(path, secret("me", {"b": encoded((None, None))}))
        await settle()
        assert await rig.kube.publish_halves(wanted) == "Secret wgpy-me was another"
        await settle()
        rig.api.put(path, secret("me", {"b": "rubbish"}))
        await settle()
        assert await rig.kube.publish_halves(wanted)
        await settle()
        assert await rig.kube.publish_halves({}) == ""
        assert rig.api.written[-1][2]["data"] == {}

    play(scene)


def test_what_others_add_to_our_secret_does_not_make_us_write_for_ever() -> None:
    async def scene(rig: Rig) -> None:
        await rig.kube.publish_halves({"b": HALVES})
        data = {"b": encoded(HALVES), "stranger": encoded(HALVES)}
        rig.api.put(f"{SECRETS}/wgpy-me", secret("me", data))
        await settle()
        assert await rig.kube.publish_halves({"b": HALVES}) == ""

    play(scene)


def test_the_name_of_a_node_may_be_too_long_for_a_label() -> None:
    async def run() -> None:
        api, time, name = FakeApi(), FakeTime(), "n" * 100
        api.put(f"{NODES}/{name}", {"metadata": {"name": name, "uid": "uid"}})
        kube = Kube(api, name, "ns", lambda: None, time.pace, lambda: 0.0)
        task = asyncio.create_task(kube.run())
        await settle()
        await kube.publish_halves({})
        assert api.written[-1][2]["metadata"]["labels"] == {"wgpy.io/node": ""}
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


def test_a_status_is_written_when_it_changes_or_its_object_is_new() -> None:
    async def scene(rig: Rig) -> None:
        await rig.kube.publish(published("me"))
        await settle()
        for _ in range(2):
            await rig.kube.set_status({"peers": {"ready": 1, "total": 1}})
        assert [path for _, path, _ in rig.api.written][1:] == [f"{PUBLISHED}/me/status"]
        rig.api.remove(f"{PUBLISHED}/me")
        await settle()
        await rig.kube.publish(published("me"))
        await rig.kube.set_status({"peers": {"ready": 1, "total": 1}})
        assert rig.api.written[-1][1] == f"{PUBLISHED}/me/status"

    play(scene)


def test_kubeadm_tells_the_ranges_of_pods() -> None:
    path = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"

    async def scene(rig: Rig) -> None:
        told = "networking:\n  podSubnet: 10.244.0.0/16,fd00::/48\n"
        rig.api.put(path, {"data": {"ClusterConfiguration": told}})
        assert await rig.kube.kubeadm_pod_ranges() == ["10.244.0.0/16", "fd00::/48"]
        for wrong in ({}, {"data": {"ClusterConfiguration": "["}}, {"data": None}):
            rig.api.put(path, wrong)
            with pytest.raises(InvalidError, match="--overlay"):
                await rig.kube.kubeadm_pod_ranges()

    play(scene)


def test_whether_one_may_write_for_others_is_asked_without_writing() -> None:
    async def scene(rig: Rig) -> None:
        with pytest.raises(InvalidError, match="not been published"):
            await rig.kube.may_write_for_others()
        await rig.kube.publish(published("me"))
        await settle()
        before = list(rig.api.written)
        assert await rig.kube.may_write_for_others()
        assert rig.api.asked[-1] == ("WRITE", f"{PUBLISHED}/not-me", (("dryRun", "All"),))
        rig.api.trouble = [ForbiddenError("no", "there")]
        assert not await rig.kube.may_write_for_others()
        assert rig.api.written == before

    play(scene)
