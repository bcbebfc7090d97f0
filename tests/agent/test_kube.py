"""The cluster as one agent sees it, and what it writes there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from math import inf

import pytest

from agent.apierrors import ForbiddenError, InvalidError
from agent.apiserver import Json
from agent.kube import NODES, PUBLISHED, Kube
from agent.model import LaneKeys, WireGuardNode
from tests.agent.fakeapi import FakeApi, FakeTime, settle


def node(name: str) -> Json:
    return {"metadata": {"name": name, "uid": f"uid-{name}"}, "spec": {"podCIDR": "10.1.0.0/24"}}


def published(name: str, epoch: int = 1) -> WireGuardNode:
    first, second = (LaneKeys(bytes([n] * 32), bytes([n] * 32), 5000 + n, epoch) for n in (1, 2))
    return WireGuardNode(name, (first, second), backend="kernel")


class Rig:
    def __init__(self) -> None:
        self.api, self.time, self.changes = FakeApi(page=100), FakeTime(), 0
        self.kube = Kube(self.api, "me", self.changed, self.time.pace, lambda: self.time.now)
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
        assert rig.changes >= 2
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


def test_two_writes_before_the_watch_tells_of_the_first_are_not_taken_for_other_hands() -> None:
    async def scene(rig: Rig) -> None:
        first, second = published("me"), published("me", 2)
        rig.api.tell(rig.api.version)
        assert await rig.kube.publish(first) == ""
        version = rig.api.version
        assert await rig.kube.publish(second) == ""
        for told in (version, inf):
            rig.api.tell(told)
            await settle()
            assert rig.kube.confirmed == second
            assert await rig.kube.publish(second) == ""
        assert len(rig.api.written) == 2

    play(scene)


def test_nothing_is_published_for_a_node_that_does_not_exist() -> None:
    async def scene(rig: Rig) -> None:
        rig.api.remove(f"{NODES}/me")
        await settle()
        with pytest.raises(InvalidError, match="NODE_NAME"):
            await rig.kube.publish(published("me"))
        assert not rig.api.written

    play(scene)


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
