"""One control plane for a whole run; every test has a cluster of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

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
