"""One control plane for a whole run; every test has a cluster of its own."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.agents import Agents
from tests.cluster.cluster import Cluster
from tests.cluster.controlplane import Access, ControlPlane
from tests.cluster.install import install

LENT = "WGPY_TEST_CONTROL_PLANE"
"""Environment: the file that leads to a control plane of somebody else's."""


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


@pytest.fixture(scope="session")
def reachable(request: pytest.FixtureRequest) -> Access:
    """`installed`, or the one that this machine's host has lent, see tests/system."""
    if lent := os.environ.get(LENT):
        return Access.borrowed(Path(lent))
    installed: ControlPlane = request.getfixturevalue("installed")
    return installed


@pytest.fixture(scope="module")
def agents(
    reachable: Access,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[Agents]:
    """Nodes with agents, for all tests of a module; none may ever send in the clear.

    A module's OPTIONS are of its agents, its NODES are how many (four if it does not say).
    """
    module = request.module
    prefix = re.split(r"[_.]", module.__name__)[-1]
    nodes = getattr(module, "NODES", 4)
    with (
        Cluster(reachable, tmp_path_factory.mktemp(prefix), prefix, nodes) as cluster,
        cluster.no_plaintext(),
    ):
        agents = Agents(cluster, "--keepalive=5s", *getattr(module, "OPTIONS", ()))
        agents.start()
        yield agents
        for number in agents.numbers:
            agents.stop_agent(number)
