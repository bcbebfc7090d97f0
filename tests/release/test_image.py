"""The image, built by podman and run as the manifests and the install page say."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from interop.shell import wait_until
from tests.agent.kustomize import MANIFESTS, build, find
from tests.cluster.agents import Agents
from tests.cluster.cluster import Cluster
from tests.cluster.controlplane import ControlPlane
from tests.cluster.install import install
from tests.cluster.node import ACCOUNT, Node
from tests.docs.hosts import Host, two_hosts
from tests.docs.pages import ROOT, blocks
from tests.release.engine import Engine
from tests.release.roots import root
from tests.release.test_install import offer
from wgpy import __version__

pytestmark = [pytest.mark.system, pytest.mark.release]

_PATIENCE = 60.0
_LONG = 300.0
_AGENT = "/opt/wgpy/bin/wgpy-agent"
_SHARE = """
mkdir -p "$1" "$2"
cp -a "$1/." "$2"
mount --bind "$2" "$1"
"""
_BASE = r"^FROM (docker.io/library/python:([\d.]+)-slim)"
# What the page says, but for the last line, which asks what the lines before have begun.
_PAGE = ROOT / "docs" / "install.md"


@pytest.fixture(scope="module")
def page() -> list[str]:
    (block,) = (b for b in blocks(_PAGE) if b.tested and __file__.endswith(b.tested))
    return block.text.replace("\\\n", " ").splitlines()


@pytest.fixture(scope="module")
def engine(page: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """With the image `wgpy`, from a base that has the Debian and the Python of the real one."""
    directory = tmp_path_factory.mktemp("engine")
    ((name, python),) = set(re.findall(_BASE, (ROOT / "Containerfile").read_text(), re.MULTILINE))
    engine = Engine(directory)
    with root(python, directory) as system:
        offer(system, f"{ROOT}[agent]")
        system.run(f"ln -s {system.python} /usr/bin/python")
        engine.take(system.path, name)
    engine.run(f"cd {ROOT}\n{page[0]}")
    yield engine
    engine.close()


@pytest.fixture
def host(engine: Engine, tmp_path: Path) -> Iterator[Host]:
    with two_hosts(tmp_path) as hosts:
        yield hosts["alpha"]
        say(engine, hosts["alpha"], "podman rm --all --force")


def say(engine: Engine, host: Host, script: str) -> str:
    variables = [f"export {name}={value}\n" for name, value in engine.environment.items()]
    done = host.bash("".join(variables) + script)
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_page_runs_a_daemon(page: list[str], engine: Engine, host: Host) -> None:
    say(engine, host, page[1])
    wait_until("the daemon answers", lambda: host.bash(page[2]).returncode == 0, _PATIENCE)
    assert "listening port" in host.bash("wg set wg0 listen-port 51820 && " + page[2]).stdout


@pytest.mark.parametrize("name", ["wgpy-agent", "wgpy-dataplane"])
def test_its_programs_start_with_the_rights_of_the_manifests(
    name: str, engine: Engine, host: Host
) -> None:
    options = podman_options(_container(name))
    assert "doctor" in say(engine, host, f"podman run --rm {options} wgpy --help")
    other = f"podman run --rm {options} --entrypoint /opt/wgpy/bin/wgpy wgpy --version"
    assert say(engine, host, other) == f"wgpy {__version__}\n"
    shell = f"podman run --rm {options} --entrypoint /bin/sh wgpy -c"
    assert "0000000000001000" in say(engine, host, f"{shell} 'grep CapEff /proc/self/status'")
    assert say(engine, host, f"{shell} 'touch /opt/wgpy/x 2>/dev/null || echo read-only'")


def test_its_containers_carry_the_traffic_of_a_cluster(engine: Engine, tmp_path: Path) -> None:
    """Against a real API server; new keys as well, and nothing of it in the clear."""
    for directory in ("plane", "cluster"):
        (tmp_path / directory).mkdir()
    with ControlPlane(tmp_path / "plane") as plane:
        install(plane.admin)
        with Cluster(plane, tmp_path / "cluster", "image", 2) as cluster:
            agents = Containers(cluster, engine)
            try:
                with cluster.no_plaintext():
                    _talk_and_rotate(cluster, agents)
                assert "node image-1: wgpy" in agents.run(1, "status")
            finally:
                agents.end()


def _talk_and_rotate(cluster: Cluster, agents: Agents) -> None:
    agents.start()
    pods = [cluster.pod(number, "pod") for number in agents.numbers]
    for family in (4, 6):
        pods[0].ping(pods[1].addresses[family], size=4000)
    before = _keys(agents)
    agents.run(1, "rotate")
    wait_until("new keys", lambda: not before & _keys(agents), _LONG, every=0.5)
    agents.wait_ready()
    pods[1].ping(pods[0].addresses[4])


class Containers(Agents):
    """Agents and launchers that are containers, made as the DaemonSets say."""

    def __init__(self, cluster: Cluster, engine: Engine) -> None:
        super().__init__(cluster)
        self._engine = engine

    def run(self, number: int, *words: str) -> str:
        name = f"{self.cluster.nodes[number - 1].name}-agent"
        return self._engine.run(shlex.join(["podman", "exec", name, _AGENT, *words]))

    def end(self) -> None:
        self._engine.run("podman stop --all && podman rm --all")

    def _start(self, number: int, what: str, *words: str) -> subprocess.Popen[bytes]:
        node = self.cluster.nodes[number - 1]
        container = _container(f"wgpy-{what}")
        told = self._accounts.get(number, {})
        told |= {"HOST_IP": self.cluster.internal_ips(number)[0], "NODE_NAME": node.name}
        args = [re.sub(r"\$\((\w+)\)", lambda m: told[m[1]], word) for word in container["args"]]
        mounts = [(m["hostPath"], m["mountPath"]) for m in container["volumeMounts"]]
        if what == "agent":
            mounts.append((ACCOUNT, ACCOUNT))
        options = [
            podman_options(container, f"ns:/run/netns/{node.namespace.name}"),
            f"--name {node.name}-{what}",
            *(f"--env {shlex.quote(f'{key}={value}')}" for key, value in told.items()),
            *(f"-v {self._share(node, path)}:{inside}" for path, inside in mounts),
        ]
        with self._log(number, what).open("ab") as log:
            return subprocess.Popen(
                ["sh", "-c", f"exec podman run {' '.join(options)} wgpy {shlex.join(args)}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._engine.environment},
            )

    def _share(self, node: Node, path: str) -> str:
        """The engine is in no node: where it finds a directory that a node has for itself."""
        if path.endswith(".lock"):
            Path(path).touch()
        if path.startswith(("/dev", "/proc")) or path.endswith(".lock"):
            return path
        place = self.cluster.directory / node.name / path[1:]
        if not place.exists():
            node.run("sh", "-euc", _SHARE, "share", path, str(place))
        return str(place)


def _keys(agents: Agents) -> set[str]:
    return {lane["publicKey"] for lane in (agents.object(1) or {})["spec"]["lanes"]}


def podman_options(container: dict[str, Any], network: str = "host") -> str:
    """What Kubernetes makes of a container's securityContext and mounts, in podman's words."""
    context = container["securityContext"]
    assert not context["privileged"] and not context["allowPrivilegeEscalation"]
    capabilities = context["capabilities"]
    words = [
        f"--network {network} --security-opt no-new-privileges",
        f"--user {context['runAsUser']}",
        *(f"--cap-drop {name}" for name in capabilities["drop"]),
        *(f"--cap-add {name}" for name in capabilities["add"]),
    ]
    if context["readOnlyRootFilesystem"]:
        words.append("--read-only --read-only-tmpfs=false")
    return " ".join(words)


def _container(name: str) -> dict[str, Any]:
    """The only one of a DaemonSet, with the paths of the host in its mounts."""
    spec = find(build(MANIFESTS / "generic"), "DaemonSet", name)["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    paths = {volume["name"]: volume["hostPath"]["path"] for volume in spec["volumes"]}
    for mount in container["volumeMounts"]:
        mount["hostPath"] = paths[mount["name"]]
    found: dict[str, Any] = container
    return found
