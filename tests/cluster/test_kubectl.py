"""What an operator types: Debian's kubectl, on our manifests and against a real API server."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from agent.kube import PUBLISHED
from agent.model import LaneKeys, WireGuardNode
from interop import cache
from interop.shell import run, wait_until
from tests.agent.kustomize import BASES, MANIFESTS, build
from tests.cluster.api import Json
from tests.cluster.controlplane import ControlPlane

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("cluster")]


@pytest.fixture(scope="module")
def kubectl() -> str:
    package, _ = cache.debian("kubectl", "trixie")
    return str(package / "usr" / "bin" / "kubectl")


def by_name(objects: list[Json]) -> dict[tuple[str, str], Json]:
    """Without the order of volumes, which means nothing and which a patch changes."""
    for one in objects:
        if one["kind"] == "DaemonSet":
            one["spec"]["template"]["spec"]["volumes"].sort(key=lambda volume: volume["name"])
    return {(one["kind"], one["metadata"]["name"]): one for one in objects}


@pytest.mark.parametrize("base", BASES)
def test_kustomize_makes_of_a_base_what_our_tests_make_of_it(base: str, kubectl: str) -> None:
    made = list(yaml.safe_load_all(run(kubectl, "kustomize", str(MANIFESTS / base))))
    ours = build(MANIFESTS / base)
    assert len(made) == len(ours)
    assert by_name(made) == by_name(ours)


def test_kubectl_applies_the_definition_and_lists_nodes_by_their_short_name(
    kubectl: str, control_plane: ControlPlane, tmp_path: Path
) -> None:
    config = control_plane.admin.kubeconfig(tmp_path / "config")
    tool = (kubectl, f"--kubeconfig={config}", f"--cache-dir={tmp_path}")
    # A server this old does not know the rules in the schema; kubectl would refuse to send them.
    run(*tool, "apply", "--validate=false", "-k", str(MANIFESTS / "crd"))
    first, second = (LaneKeys(bytes([n] * 32), bytes([n] * 32), 5000 + n, 40 + n) for n in (1, 2))
    wanted = WireGuardNode("kubectl-node", (first, second), 0, (), "userspace", "1")
    node = wanted.to_object("uid")
    admin = control_plane.admin
    wait_until("it is served", lambda: "wgn" in run(*tool, "api-resources"), 30, every=0.5)
    admin.create(PUBLISHED, node)
    try:
        lines = run(*tool, "get", "wgn", "kubectl-node", "-o", "wide").splitlines()
    finally:
        admin.delete(f"{PUBLISHED}/kubectl-node")
    assert "READY" in lines[0] and "EPOCH-0" in lines[0]
    assert {"kubectl-node", "userspace", "41", "42"} <= set(lines[1].split())
