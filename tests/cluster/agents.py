"""The agent on the nodes of a cluster, as its two DaemonSets run it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

from interop.shell import CommandFailed, wait_until
from tests.cluster.api import Api, ApiError, Json
from tests.cluster.cluster import Cluster
from tests.cluster.slowness import SLOWNESS
from wgpy.dataplane import probe

NAMESPACE = "wgpy-system"
ACCOUNT = "wgpy-agent"
AGENT = (sys.executable, "-P", "-m", "agent")
# As the manifests give it to both containers.
CAPABLE = (
    *("setpriv", "--bounding-set=-all,+net_admin", "--inh-caps=-all", "--ambient-caps=-all"),
    "--no-new-privs",
)
_ROOT = Path(__file__).parents[2]
_PATIENCE = 300.0 * SLOWNESS
_OBJECTS = "/apis/wgpy.io/v1alpha1/wireguardnodes"
_ALL = ("sh", "-c", '"$@" 2>&1 || :', "all")
_REBOOT = """
ip link del wgpy-pods
nft flush ruleset
for family in -4 -6; do
  ip $family route flush table all proto 157
  while ip $family rule del priority 5157 2>/dev/null; do :; done
done
find /run/wgpy /run/wireguard -mindepth 1 -delete
echo 0 > /proc/sys/net/ipv4/ip_forward
"""


class Agents:
    """Per node (from 1) a launcher and an agent; ended with the cluster."""

    def __init__(self, cluster: Cluster, *options: str) -> None:
        """`options` are of `wgpy-agent run`, for all nodes.

        Where the kernel has WireGuard the odd nodes use it, and the even ones do not.
        """
        self.cluster = cluster
        # By node, what runs agent and launcher, if it is not what the manifests say.
        self.prefixes: dict[int, tuple[str, ...]] = {}
        self._has_kernel = not probe().kernel_reason
        self._options = options
        self._accounts: dict[int, dict[str, str]] = {}
        self._agents: dict[int, subprocess.Popen[bytes]] = {}
        self._launchers: dict[int, subprocess.Popen[bytes]] = {}

    def plane(self, number: int) -> str:
        """The data plane of a node."""
        return "kernel" if self._has_kernel and number % 2 else "userspace"

    @property
    def numbers(self) -> range:
        return range(1, len(self.cluster.nodes) + 1)

    @property
    def admin(self) -> Api:
        return self.cluster.control_plane.admin

    @staticmethod
    def metrics_address(number: int) -> str:
        """Where a node's agent serves /metrics."""
        return f"{Cluster.internal_ips(number)[0]}:51870"

    def start(self) -> None:
        """All of them; they are ready when this returns."""
        for number in self.numbers:
            self.start_launcher(number)
            self.start_agent(number)
        self.wait_ready(alive=True)

    def start_launcher(self, number: int) -> None:
        self._launchers[number] = self._start(number, "dataplane", "dataplane")

    def start_agent(self, number: int, *options: str) -> None:
        """With the pod, and so the token, that it had before, if it had one."""
        if number not in self._accounts:
            self._accounts[number] = self.cluster.sign_in(number, NAMESPACE, ACCOUNT)
        listen = f"--listen={self.metrics_address(number)}"
        # Where there is a choice: else it is the agent's own.
        chosen = self._has_kernel and self.plane(number) == "userspace"
        plane = ("--dataplane=userspace",) if chosen else ()
        words = ("run", "--resync=30s", listen, *plane, *self._options, *options)
        self._agents[number] = self._start(number, "agent", *words)

    def agent_pid(self, number: int) -> int:
        return self._agents[number].pid

    def kill_agent(self, number: int) -> None:
        """SIGKILL."""
        self._agents[number].kill()
        self._agents[number].wait(10)

    def stop_agent(self, number: int) -> None:
        """As kubelet does it."""
        self._agents[number].send_signal(signal.SIGTERM)
        assert self._agents[number].wait(10) == 0

    def wait_agent(self, number: int, timeout: float) -> int:
        """The exit status of one that ends by itself."""
        return self._agents[number].wait(timeout)

    def stop_launcher(self, number: int) -> None:
        """As kubelet does it; its daemons end too."""
        self._launchers[number].send_signal(signal.SIGTERM)
        assert self._launchers[number].wait(20) == 0

    def kill_launcher(self, number: int) -> None:
        """SIGKILL; its daemons live on, as they have a process group of their own."""
        self._launchers[number].kill()
        self._launchers[number].wait(10)

    def reboot(self, number: int) -> None:
        """What does not survive one is gone, and nothing is started again."""
        daemons = self.daemons(number)
        for child in (self._agents[number], self._launchers[number]):
            child.kill()
            child.wait(10)
        for pid in daemons.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.cluster.nodes[number - 1].run("sh", "-c", _REBOOT)

    def collect_garbage(self, number: int) -> None:
        """What a Node owns goes with it; no controller does that here."""
        name = self.cluster.nodes[number - 1].name
        self.admin.delete(f"{_OBJECTS}/{name}")

    def daemons(self, number: int) -> dict[str, int]:
        """Process id of each lane's userspace daemon."""
        found = {}
        for pid in self.cluster.nodes[number - 1].pids():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
                if "--foreground" in words:
                    found[words[-1]] = pid
        return found

    def status(self, number: int) -> Json | None:
        """What `wgpy-agent status` tells; None if there is nothing yet."""
        with contextlib.suppress(CommandFailed):
            told: Json = json.loads(self.run(number, "status", "--json"))
            return told
        return None

    def run(self, number: int, *words: str) -> str:
        """Another command of `wgpy-agent` in the agent's pod of a node. CommandFailed."""
        return self._run(number, *words)

    def said(self, number: int, *words: str) -> str:
        """All that such a command prints, also to standard error, whatever it exits with."""
        return self._run(number, *words, through=_ALL)

    def _run(self, number: int, *words: str, through: tuple[str, ...] = ()) -> str:
        node = self.cluster.nodes[number - 1]
        told = {**self._accounts.get(number, {}), "PYTHONPATH": str(_ROOT)}
        environment = [f"{name}={value}" for name, value in told.items()]
        prefix = self.prefixes.get(number, CAPABLE)
        return node.run("env", *environment, *through, *prefix, *AGENT, *words)

    def wait_ready(self, timeout: float = _PATIENCE, *, alive: bool = False) -> None:
        """Each reaches all the others, and nothing moves any more.

        AssertionError at once if they must be `alive`, and one is not.
        """

        def ready(number: int) -> bool:
            assert not alive or self._agents[number].poll() is None, self._last_words(number)
            return self.ready(number)

        for number in self.numbers:
            wait_until(f"the agent of node {number} is ready", partial(ready, number), timeout)

    def _last_words(self, number: int) -> str:
        return "\n".join(self._log(number, "agent").read_text().splitlines()[-3:])

    def ready(self, number: int) -> bool:
        """Of the object that others see, so that waiting costs the nodes nothing."""
        peers = len(self.cluster.nodes) - 1
        status = (self.object(number) or {}).get("status") or {}
        return (
            status.get("peers") == {"ready": peers, "total": peers}
            and status["rotation"]["stage"] == "steady"
        )

    def object(self, number: int) -> Json | None:
        """Its WireGuardNode."""
        name = self.cluster.nodes[number - 1].name
        try:
            return self.admin.get(f"{_OBJECTS}/{name}")
        except ApiError:
            return None

    def log(self, number: int, what: str = "agent") -> str:
        return self._log(number, what).read_text()

    def has_log(self, number: int) -> bool:
        return self._log(number, "agent").exists()

    def _start(self, number: int, what: str, *words: str) -> subprocess.Popen[bytes]:
        environment = {**self._accounts.get(number, {}), "PYTHONPATH": str(_ROOT)}
        with self._log(number, what).open("ab") as log:
            return self.cluster.nodes[number - 1].start(
                *self.prefixes.get(number, CAPABLE),
                *AGENT,
                *words,
                output=log,
                environment=environment,
            )

    def _log(self, number: int, what: str) -> Path:
        return self.cluster.directory / f"{self.cluster.nodes[number - 1].name}-{what}.log"
