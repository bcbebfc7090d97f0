"""A run of a cluster in which all happens that handles keys, and what it leaves.

Start, rotation, an agent and a daemon that end, peers that publish nonsense, healing, a node that
begins anew after `uninstall`, and the commands.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

from agent.kube import PUBLISHED
from interop.shell import CommandFailed, run, wait_until
from tests.cluster.agents import Agents
from tests.cluster.controlplane import ControlPlane
from tests.cluster.evidence import (
    Processes,
    api_objects,
    files,
    live_secrets,
    node_files,
    open_files,
)
from tests.cluster.node import ACCOUNT
from tests.cluster.secretscan import Scanner, signature

_PATIENCE = 90.0
_MARK = 0x99
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
        """Keep what a command prints."""
        said = self.agents.said(number, *words)
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


def live(happened: Run) -> None:
    """All of it, from the start of the agents."""
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
    _heal(happened)
    _begin_anew(happened)

    pods = [agents.cluster.pod(number, "a") for number in (1, 2)]
    way = [pod.addresses[4] for pod in pods]
    for words in (("status",), ("status", "--json"), ("doctor",), ("trace", *way)):
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


def _heal(happened: Run) -> None:
    """What node 1 sends on its lane goes nowhere, until it has tried all its cures.

    That is the socket's mark, which is nothing that an agent desires.
    """
    agents, node = happened.agents, happened.agents.cluster.nodes[0]
    words = f"fwmark {_MARK} blackhole priority 100"
    node.run(*f"ip rule add {words}".split())
    node.run(*f"wg set wgpy0 fwmark {_MARK}".split())

    def healed() -> bool:
        return any("made anew" in line for line in (agents.status(1) or {"healing": []})["healing"])

    wait_until("the lane is made anew", healed, 2 * _PATIENCE, every=1)
    node.run(*f"ip rule del {words}".split())
    agents.wait_ready()
    happened.gather()


def _begin_anew(happened: Run) -> None:
    """Node 4 loses all that it had, and comes back."""
    agents, old = happened.agents, happened.keys(4)
    happened.evidence += files(agents.cluster.nodes[3].path("/run/wgpy"), happened.since)
    agents.stop_agent(4)
    agents.stop_launcher(4)
    happened.say(4, "uninstall")
    agents.start_launcher(4)
    agents.start_agent(4)
    happened.gather_until_ready(4, old)
    agents.wait_ready()
    happened.gather()


def _metrics(number: int) -> list[str]:
    script = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())"
    url = f"http://{Agents.metrics_address(number)}/metrics"
    return ["/usr/bin/python3", "-c", script, url]
