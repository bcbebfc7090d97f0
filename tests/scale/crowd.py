"""Nodes that are nothing but objects at the API server, as their kubelets and agents write them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from ipaddress import ip_address, ip_network
from os import urandom

import aiohttp
from nacl.bindings import crypto_scalarmult_base

from agent.apiserver import Json
from agent.kube import NODES, PUBLISHED
from agent.model import LaneKeys, WireGuardNode
from tests.cluster.controlplane import Access

_AT_ONCE = 32
# What a kubelet tells of images: the most of a Node's bytes.
_IMAGES = 30
_APPLY = "application/apply-patch+yaml"
_FIRST_NODE = int(ip_address("198.18.16.1"))
_FIRST_NODE6 = int(ip_address("2001:2:0:1::1:0"))


class Crowd:
    """`async with` it: all its nodes are there; gone at the end. `nodes` are as they are now."""

    def __init__(self, access: Access, count: int) -> None:
        self.nodes = [published(number) for number in range(count)]
        self._uids: dict[str, str] = {}
        self._root = f"https://{access.host}:{access.port}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=ssl.create_default_context(cafile=str(access.ca)), limit=_AT_ONCE
            ),
            headers={"Authorization": f"Bearer {access.admin.token}"},
            timeout=aiohttp.ClientTimeout(total=300),
        )

    async def __aenter__(self) -> Crowd:
        await self._each(range(len(self.nodes)), self._add)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._each(range(len(self.nodes)), self._remove)
        await self._session.close()

    async def renew(self, number: int) -> WireGuardNode:
        """A node has new keys on both lanes, as after a reboot."""
        old = self.nodes[number]
        epoch = old.lanes[0].epoch + 1
        return await self.say(number, replace(old, lanes=(new_keys(0, epoch), new_keys(1, epoch))))

    async def say(self, number: int, node: WireGuardNode) -> WireGuardNode:
        """What that node publishes from now on."""
        await self._request("PATCH", _apply_path(node), self._object(node), _APPLY)
        self.nodes[number] = node
        return node

    async def _add(self, number: int) -> None:
        node = self.nodes[number]
        told = await self._request("POST", NODES, node_object(number, node))
        self._uids[node.name] = told["metadata"]["uid"]
        await self._request("PATCH", _apply_path(node), self._object(node), _APPLY)

    async def _remove(self, number: int) -> None:
        name = self.nodes[number].name
        await self._request("DELETE", f"{PUBLISHED}/{name}")
        await self._request("DELETE", f"{NODES}/{name}")

    def _object(self, node: WireGuardNode) -> Json:
        return node.to_object(self._uids[node.name])

    async def _request(
        self, method: str, path: str, body: Json | None = None, kind: str = "application/json"
    ) -> Json:
        async with self._session.request(
            method, self._root + path, json=body, headers={"Content-Type": kind}
        ) as answer:
            answer.raise_for_status()
            told: Json = await answer.json()
        return told

    @staticmethod
    async def _each(numbers: Iterable[int], do: Callable[[int], Awaitable[None]]) -> None:
        left = iter(numbers)

        async def work() -> None:
            for number in left:
                await do(number)

        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(work())


def new_keys(lane: int, epoch: int) -> LaneKeys:
    public, box = crypto_scalarmult_base(urandom(32)), crypto_scalarmult_base(urandom(32))
    return LaneKeys(public, box, 51871 + lane, epoch)


def published(number: int) -> WireGuardNode:
    addresses = ip_address(_FIRST_NODE + number), ip_address(_FIRST_NODE6 + number)
    name = f"worker-{number:05}.crowd.example"
    return WireGuardNode(name, (new_keys(0, 1), new_keys(1, 1)), 0, addresses, "kernel", "0.1.0")


def node_object(number: int, node: WireGuardNode) -> Json:
    """The Node, of a size that is usual."""
    cidrs = [ip_network(((10 << 24) + ((number + 256) << 8), 24))]
    cidrs6 = [ip_network(((0xFD00_0010 << 96) + ((number + 256) << 64), 64))]
    told = [str(cidr) for cidr in (*cidrs, *cidrs6)]
    addresses = [{"type": "InternalIP", "address": str(a)} for a in node.endpoints]
    images = [
        {"names": [f"registry.example/team/{number}/{i}@sha256:{'0' * 64}"], "sizeBytes": 1 << 27}
        for i in range(_IMAGES)
    ]
    return {
        "metadata": {"name": node.name, "labels": {"kubernetes.io/os": "linux"}},
        "spec": {"podCIDR": told[0], "podCIDRs": told},
        "status": {"addresses": addresses, "images": images},
    }


def _apply_path(node: WireGuardNode) -> str:
    return f"{PUBLISHED}/{node.name}?fieldManager=wgpy-agent&force=true"
