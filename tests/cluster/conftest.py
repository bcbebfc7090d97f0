"""One control plane for a whole run; every test has a cluster of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.agents import Agents
from tests.cluster.cluster import Cluster
from tests.cluster.controlplane import ControlPlane
from tests.cluster.install import install


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Tests of it are all in one xdist_group, so that one run has one."""
    with ControlPlane(tmp_path_factory.mktemp("control-plane")) as running:
        yield running


@pytest.fixture(scope="session")
def installed(control_plane: ControlPlane) -> ControlPlane:
    """With the agent's manifests applied."""
    install(control_plane.admin)
    return control_plane


@pytest.fixture(scope="module")
def agents(
    installed: ControlPlane,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[Agents]:
    """Four nodes with agents, for all tests of a module; none may ever send in the clear."""
    prefix = request.module.__name__.rpartition("_")[2]
    with (
        Cluster(installed, tmp_path_factory.mktemp(prefix), prefix, 4) as cluster,
        cluster.no_plaintext(),
    ):
        agents = Agents(cluster, "--keepalive=5s")
        agents.start()
        yield agents
        for number in agents.numbers:
            agents.stop_agent(number)
