"""No private key, preshared key or token is anywhere that somebody could read it.

One run with everything that handles keys in it: start, rotation, an agent and a daemon that end,
peers that publish nonsense, and the commands. Then all that the run has left is looked through for
the keys that were really in use.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.kube import PUBLISHED
from interop.netns import stop
from interop.shell import CommandFailed, run, wait_until
from tests.cluster.agents import CAPABLE, Agents
from tests.cluster.api import ApiError
from tests.cluster.cluster import Cluster
from tests.cluster.controlplane import ControlPlane
from tests.cluster.evidence import (
    Processes,
    api_objects,
    core_limit,
    files,
    live_secrets,
    modes,
    node_files,
    open_files,
)
from tests.cluster.install import install
from tests.cluster.node import ACCOUNT
from tests.cluster.secretscan import Hit, Scanner, clamped, scan_all, signature

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("cluster")]

_PATIENCE = 90.0
# Bodies of all requests and answers; but for tokens, which any sane policy leaves out.
_AUDIT_POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
rules:
  - level: Metadata
    resources: [{group: "", resources: [serviceaccounts/token]}]
  - level: RequestResponse
"""
# What the tests themselves need: the administrator's token, and the keys of certificates.
_OURS = {"users.csv", "ca.key", "server.key", "account.key"}


class AuditedControlPlane(ControlPlane):
    """Its API server writes down every request."""

    def _start(self, *argv: str) -> subprocess.Popen[bytes]:
        if Path(argv[0]).name == "kube-apiserver":
            policy = self.directory / "audit.yaml"
            policy.write_text(_AUDIT_POLICY)
            log = self.directory / "audit.log"
            argv += (f"--audit-policy-file={policy}", f"--audit-log-path={log}")
        return super()._start(*argv)


class Run:
    """What has happened, and what it has left.

    :param since: files that are older are not of it, seconds of the wall clock.
    """

    def __init__(self, agents: Agents, processes: Processes, since: float) -> None:
        self.agents = agents
        self.processes = processes
        self.since = since
        self.secrets: dict[bytes, str] = {}
        self.evidence: list[tuple[str, bytes]] = []

    @property
    def scanner(self) -> Scanner:
        names = {f"{name}, number {i}": s for i, (s, name) in enumerate(self.secrets.items())}
        return Scanner(names)

    @property
    def keyholders(self) -> dict[str, int]:
        found = {}
        for number in self.agents.numbers:
            found[f"agent {number}"] = self.agents.agent_pid(number)
            found |= {f"{lane} {number}": pid for lane, pid in self.agents.daemons(number).items()}
        return found

    def gather(self) -> None:
        """The secrets of this moment."""
        nodes = self.agents.cluster.nodes
        # A device that is made anew answers in a moment.
        with contextlib.suppress(CommandFailed):
            self.secrets.update(live_secrets(nodes))
        for node in nodes:
            token = node.path(f"{ACCOUNT}/token").read_text()
            self.secrets[signature(token)] = f"the token of {node.name}"

    def gather_until_ready(self, number: int, old: list[str]) -> None:
        def is_done() -> bool:
            self.gather()
            return not set(old) & set(self.keys(number)) and self.agents.ready(number)

        wait_until(f"node {number} has new keys", is_done, _PATIENCE, every=0.3)

    def keys(self, number: int) -> list[str]:
        told = self.agents.object(number)
        assert told is not None
        return [lane["publicKey"] for lane in told["spec"]["lanes"]]

    def say(self, number: int, *words: str) -> None:
        """Keep what a command prints, whatever it exits with."""
        try:
            said = self.agents.run(number, *words)
        except CommandFailed as failure:
            said = str(failure)
        self.evidence.append((f"what {' '.join(words)} prints", said.encode()))

    def keep_files(self) -> None:
        """Those of this moment."""
        cluster, plane = self.agents.cluster, self.agents.cluster.control_plane
        for node in cluster.nodes:
            self.evidence += node_files(node, self.since)
        assert isinstance(plane, ControlPlane)
        for top in (cluster.directory, plane.directory):
            for name, data in files(top, self.since):
                if Path(name).name not in _OURS:
                    self.evidence.append((name, data))
        for pid in self.keyholders.values():
            self.evidence += open_files(pid)

    def everything(self) -> list[tuple[str, bytes]]:
        return [*self.evidence, *self.processes.found.items()]


@pytest.fixture(scope="module")
def eventful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with contextlib.ExitStack() as stack:
        plane = stack.enter_context(AuditedControlPlane(tmp_path_factory.mktemp("audited")))
        install(plane.admin)
        directory = tmp_path_factory.mktemp("secrets")
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        # Daemons are told by their launcher's environment.
        patch.setenv("LOG_LEVEL", "debug")
        patch.setenv("TMPDIR", str(directory))
        since = time.time()
        processes = stack.enter_context(Processes())
        cluster = stack.enter_context(Cluster(plane, directory, "secrets", 4))
        stack.enter_context(cluster.capture())
        agents = Agents(cluster, "--keepalive=5s", "--log-level=debug")
        happened = Run(agents, processes, since)
        _live(happened)
        yield happened


def _live(happened: Run) -> None:
    agents = happened.agents
    agents.start()
    happened.gather()
    happened.keep_files()
    old = {number: happened.keys(number) for number in agents.numbers}

    os.kill(agents.daemons(3)["wgpy0"], signal.SIGKILL)
    agents.run(1, "rotate")
    agents.stop_agent(2)
    _publish_nonsense(happened)
    agents.start_agent(2)
    for number in (1, 2):
        happened.gather_until_ready(number, old[number])
    agents.wait_ready()
    happened.gather()

    for words in (("status",), ("status", "--json"), ("doctor",)):
        happened.say(1, *words)
    happened.say(1, "doctor", "--node", "nobody")
    metrics = run("ip", "netns", "exec", agents.cluster.nodes[0].namespace.name, *_metrics(1))
    happened.evidence.append(("/metrics", metrics.encode()))
    happened.keep_files()
    happened.evidence += api_objects(agents.admin)


def _publish_nonsense(happened: Run) -> None:
    """As node 4 could: a key of node 1."""
    agents, name = happened.agents, happened.agents.cluster.nodes[3].name
    lanes = (agents.object(4) or {})["spec"]["lanes"]
    lanes[0]["publicKey"] = happened.keys(1)[0]
    agents.admin.merge(f"{PUBLISHED}/{name}", {"spec": {"lanes": lanes}})


def _metrics(number: int) -> list[str]:
    script = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())"
    url = f"http://{Agents.metrics_address(number)}/metrics"
    return ["/usr/bin/python3", "-c", script, url]


def test_the_run_had_the_secrets_that_are_looked_for(eventful: Run) -> None:
    """Four nodes with two lanes; two of them with new keys, some on both lanes; all pairs."""
    names = list(eventful.secrets.values())
    assert len([name for name in names if name.startswith("a private key")]) >= 12
    assert len([name for name in names if name.startswith("a PSK")]) >= 12 + 2 * 5
    assert len([name for name in names if name.startswith("the token")]) == 4


def test_no_secret_is_in_anything_that_the_run_has_left(eventful: Run) -> None:
    found = scan_all(eventful.scanner, eventful.everything())
    assert not found, "\n".join(map(str, found))


def test_all_that_could_tell_was_looked_at(eventful: Run) -> None:
    """Each kind of evidence is there, and it is what it is taken for."""
    places = dict(eventful.everything())
    every = b"".join(places.values())
    name = eventful.agents.cluster.nodes[0].name
    for part in (
        "audit.log",
        "kube-apiserver.log",
        "etcd/member/wal",
        "etcd/member/snap/db",
        f"{name}-agent.log",
        f"{name}-dataplane.log",
        ".pcap",
        "10-wgpy.conflist",
        "/api/v1/secrets",
        "/api/v1/events",
        PUBLISHED,
        "what status prints",
        "what doctor prints",
        "/metrics",
    ):
        assert any(part in place and data for place, data in places.items()), part
    # Public keys are where they should be, so that private ones would be found there too.
    public = eventful.keys(1)[0].encode()
    for part in ("audit.log", "etcd/member", PUBLISHED):
        assert any(part in place and public in data for place, data in places.items()), part
    for pid in eventful.keyholders.values():
        for what in ("cmdline", "environ"):
            assert Path(f"/proc/{pid}/{what}").read_bytes() in every
    logs = [data for place, data in places.items() if place.endswith("-agent.log")]
    assert any(b'"level": "debug"' in data for data in logs)
    assert any(b"publishes a key of node" in data for data in every.splitlines())


def test_who_has_keys_dumps_no_core_and_lets_nobody_look_into_it(eventful: Run) -> None:
    holders = eventful.keyholders
    assert len(holders) == 12
    for what, pid in holders.items():
        assert core_limit(pid) == "0 0", what
        for secret in ("environ", "maps", "mem"):
            with pytest.raises(CommandFailed, match="Permission denied"):
                _peek(pid, secret)


def test_what_the_run_directories_have_is_for_root_alone(eventful: Run) -> None:
    for node in eventful.agents.cluster.nodes:
        for top in ("/run/wgpy", "/run/wireguard"):
            found = modes(node, top)
            assert found, top
            assert not {path: oct(mode) for path, mode in found.items() if mode & 0o077}


def test_a_process_that_is_not_hardened_could_be_looked_into() -> None:
    """So that it is their doing."""
    plain = subprocess.Popen([*CAPABLE, "sleep", "60"])
    try:
        wait_until("it is sleep", lambda: b"sleep" in _argv(plain.pid)[:6], _PATIENCE)
        assert _peek(plain.pid, "environ")
    finally:
        stop(plain)


def _argv(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def _peek(pid: int, what: str) -> str:
    """As a process of the same user with the same capabilities."""
    return run(*CAPABLE, "head", "-c", "1", f"/proc/{pid}/{what}")


def test_what_is_planted_is_found(eventful: Run) -> None:
    """A secret of each kind, in one place after the other; none of them is missed."""
    agents, node = eventful.agents, eventful.agents.cluster.nodes[0]
    key = node.run("wg", "show", "wgpy0", "private-key").strip()
    psk = node.run("wg", "show", "wgpy0", "preshared-keys").split()[1]
    token = node.path(f"{ACCOUNT}/token").read_text()
    secrets = [clamped(b64decode(key)), b64decode(psk), signature(token)]
    assert set(secrets) <= set(eventful.secrets)

    log = agents.cluster.directory / f"{node.name}-agent.log"
    before = log.stat().st_size
    with log.open("a") as out:
        out.write(json.dumps({"message": f"key {key}"}) + "\n")
    node.path("/run/wgpy/planted").write_bytes(b64decode(key))
    event = {
        "metadata": {"name": "planted"},
        "involvedObject": {"kind": "Node", "name": node.name},
        "message": f"PSK {b64decode(psk).hex()}",
    }
    events = "/api/v1/namespaces/default/events"
    agents.admin.create(events, event)
    with tempfile.TemporaryFile() as deleted:
        deleted.write(b64decode(psk))
        deleted.flush()
        talkative = subprocess.Popen(
            ["sh", "-c", "read line", "planted", token],
            env={"PLANTED": b64decode(key).hex()},
            stdin=subprocess.PIPE,
            pass_fds=[deleted.fileno()],
        )
    try:
        processes = Processes()
        wait_until("it runs", lambda: token.encode() in _argv(talkative.pid), _PATIENCE)
        processes.look()
        found = scan_all(
            Scanner(dict(zip(("key", "PSK", "token"), secrets, strict=True))),
            [
                *files(agents.cluster.directory, eventful.since),
                *node_files(node, eventful.since),
                *api_objects(agents.admin),
                *processes.found.items(),
                *open_files(talkative.pid),
            ],
        )
    finally:
        assert talkative.stdin is not None
        talkative.stdin.close()
        stop(talkative)
        node.path("/run/wgpy/planted").unlink()
        with contextlib.suppress(ApiError):
            agents.admin.delete(f"{events}/planted")
        os.truncate(log, before)
    _expect(found, "key", log.name, "base64")
    _expect(found, "key", "/run/wgpy/planted", "raw")
    _expect(found, "PSK", events.replace("/namespaces/default", ""), "hex")
    _expect(found, "token", f"/proc/{talkative.pid}/cmdline", "raw")
    _expect(found, "key", f"/proc/{talkative.pid}/environ", "hex")
    _expect(found, "PSK", "(deleted)", "raw")


def _expect(found: list[Hit], secret: str, place: str, form: str) -> None:
    assert any(
        hit.secret == secret and place in hit.place and hit.form.startswith(form) for hit in found
    ), (place, found)
