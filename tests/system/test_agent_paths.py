"""A question to a peer leaves by the lane that it is for or not at all, whatever the routes say."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from agent import paths
from tests.system.agentnode import capture
from tests.system.tunhost import Namespace

pytestmark = pytest.mark.system

_TARGETS = {4: "203.0.113.5", 6: "2001:db8:5::5"}
# The better routes lead past the lane.
_HOST = """
link add lane type veth peer name lane-end
link add uplink type veth peer name uplink-end
address add 198.51.100.1/24 dev uplink
address add 2001:db8::1/64 dev uplink nodad
link set lane-end up
link set uplink-end up
link set uplink up
link set lane up
neigh add 198.51.100.9 lladdr 02:00:00:00:00:09 dev uplink
neigh add 2001:db8::9 lladdr 02:00:00:00:00:09 dev uplink
neigh add 203.0.113.5 lladdr 02:00:00:00:00:05 dev lane
neigh add 2001:db8:5::5 lladdr 02:00:00:00:00:05 dev lane
route add 203.0.113.0/24 dev lane metric 900
-6 route add 2001:db8:5::/64 dev lane metric 900
route add 203.0.113.0/24 via 198.51.100.9 metric 100
-6 route add 2001:db8:5::/64 via 2001:db8::9 metric 100
"""


@pytest.fixture
def host() -> Iterator[Namespace]:
    namespace = Namespace(f"an{os.getpid()}p")
    try:
        for line in _HOST.strip().splitlines():
            namespace.ip(*line.split())
        yield namespace
    finally:
        namespace.remove()


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("device", "other"), [("lane", "uplink"), ("", "lane")])
def test_a_question_leaves_by_its_device(
    host: Namespace, version: int, device: str, other: str
) -> None:
    with capture(host, device or "uplink") as seen, capture(host, other) as seen_elsewhere:
        with host.inside():
            answer = paths.ask(_TARGETS[version], timeout=0.2, tries=1, device=device)
        assert answer.heard == "silence"
        assert len(_questions(seen(), version)) == 1
        assert _questions(seen_elsewhere(), version) == []


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("gone", ["link set lane down", "link del lane"])
def test_without_its_device_no_question_leaves(host: Namespace, version: int, gone: str) -> None:
    host.ip(*gone.split())
    with capture(host, "uplink") as seen:
        with host.inside():
            answer = paths.ask(_TARGETS[version], timeout=0.2, tries=1, device="lane")
        assert answer.heard == "no way"
        assert _questions(seen(), version) == []


def _questions(frames: list[bytes], version: int) -> list[bytes]:
    udp = 14 + (20 if version == 4 else 40)
    kind = {4: b"\x08\x00", 6: b"\x86\xdd"}[version]
    port = paths.PORT.to_bytes(2)
    return [f for f in frames if f[12:14] == kind and f[udp + 2 : udp + 4] == port]
