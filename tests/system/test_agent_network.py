"""The agent's network resources on a node: real packets, real drift."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.agentnode import (
    FAR_POD,
    POD,
    Lab,
    Resources,
    listener,
    received_from,
    send,
)

pytestmark = pytest.mark.system

VERSIONS = pytest.mark.parametrize("version", [4, 6])


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


@pytest.fixture
def resources(lab: Lab, tmp_path: Path) -> Iterator[Resources]:
    made = Resources(tmp_path)
    with lab.node.inside():
        made.reconcile()
    yield made
    with lab.node.inside():
        made.remove()


def _drops(lab: Lab, resources: Resources) -> dict[str, int]:
    with lab.node.inside():
        return {name: count.packets for name, count in resources.firewall.counters().items()}


def test_a_second_pass_changes_nothing(lab: Lab, resources: Resources) -> None:
    with lab.node.inside():
        assert resources.reconcile() == []


def test_an_agent_that_starts_anew_finds_nothing_to_change(
    lab: Lab, resources: Resources, tmp_path: Path
) -> None:
    with lab.node.inside():
        assert Resources(tmp_path).reconcile() == []


@VERSIONS
def test_a_pod_reaches_a_pod_behind_the_lane_under_its_own_address(
    lab: Lab, resources: Resources, version: int
) -> None:
    with listener(lab.far, version) as far:
        send(lab.pod, version, FAR_POD[version])
        assert received_from(far) == POD[version]
    with listener(lab.pod, version) as pod:
        send(lab.far, version, POD[version], FAR_POD[version])
        assert received_from(pod) == FAR_POD[version]
