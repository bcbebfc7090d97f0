"""The machines of the demo: an underlay and its nodes, each a set of namespaces.

  API server, capture
       │
   br0 in the namespace `switch`: 198.18.0.1
  ┌────┴────┬─────────┐  veth: portN at the switch, eth0 at the node
node 1    node 2    node 3       198.18.0.10+N
  │ bridge of the CNI plugin     10.244.N.0/24
pod 1     pod 2     pod 3
"""

import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pyroute2 import netns

from agent.control import SOCKET as CONTROL
from agent.demo.shell import Child, DemoError, run, stop

SWITCH_ADDRESS = "198.18.0.1"
# Directories that each node has for itself, empty at first, as on a machine just switched on.
_OWN = ("/etc/cni/net.d", "/run/wgpy", "/run/wireguard", "/var/lib/cni")
# The first process of a node: the others end with it, and it with us.
_HOLD = """
set -e
for directory; do mount -t tmpfs -o mode=0755 tmpfs "$directory"; done
echo ready
exec cat >/dev/null
"""
_DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")
_BOOT_TIMEOUT = 60.0
_ROOT = Path(__file__).parents[2]


class Namespace:
    """A network namespace by a name of its own."""

    def __init__(self, name: str) -> None:
        self.name = f"wgpy-demo-{os.getpid()}-{name}"
        # Not by pyroute2, which forks: we have threads.
        run(["ip", "netns", "add", self.name])
        self._children: list[Child] = []
        self.ip("link set lo up")

    def ip(self, words: str) -> None:
        run(["ip", "-n", self.name, *words.split()])

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        with self._inside():
            return socket.socket(family, kind, protocol)

    def python(self, module: str, *words: str) -> Child:
        """A module of ours as a process inside, with pipes; it ends with the namespace."""
        with self._inside():
            child = subprocess.Popen(
                [*_DIES_WITH_US, sys.executable, "-P", "-m", module, *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.fspath(_ROOT)},
                start_new_session=True,
            )
        self._children.append(child)
        return child

    @contextmanager
    def _inside(self) -> Iterator[None]:
        netns.pushns(self.name)
        try:
            yield
        finally:
            netns.popns()

    def close(self) -> None:
        for child in self._children:
            stop(child)
        with suppress(FileNotFoundError):
            netns.remove(self.name)


class Node:
    """A machine: network, files and processes of its own. Switched on when it is made."""

    def __init__(self, number: int, switch: Namespace, directory: Path) -> None:
        """`directory`: for the logs of its processes."""
        self.number = number
        self.name = f"node-{number}"
        self.address = f"198.18.0.{10 + number}"
        # Always the same, as a machine that is switched on again has it.
        self.mac = f"02:00:c6:12:00:{10 + number:02x}"
        self.pod_cidr = f"10.244.{number}.0/24"
        self._switch = switch
        self._directory = directory
        self._children: list[Child] = []
        self._first: Child | None = None
        self.namespace = Namespace(f"node{number}")
        try:
            self._plug_in()
            self._boot()
        except BaseException:
            self.switch_off()
            raise

    def run(self, *argv: str, stdin: str = "") -> str:
        """A command of the node. DemoError."""
        return run([*self._enter(), *argv], stdin)

    def start(self, what: str, *argv: str) -> None:
        """A process of the node, its output in a log."""
        with self.log(what).open("ab") as log:
            child = subprocess.Popen(
                [*self._enter(), *argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": os.fspath(_ROOT)},
                start_new_session=True,
            )
        self._children.append(child)

    def log(self, what: str) -> Path:
        return self._directory / f"{self.name}-{what}.log"

    @property
    def control(self) -> Path:
        """The socket of its agent, as this machine can open it."""
        assert self._first is not None
        return Path(f"/proc/{self._first.pid}/root{CONTROL}")

    def switch_off(self) -> None:
        """As if its plug was pulled: no process gets to say anything any more."""
        with suppress(DemoError):
            self._switch.ip(f"link del port{self.number}")
        if self._first is not None:
            # Its namespace of processes goes with the first of them.
            self._first.kill()
            self._first.communicate()
        for child in self._children:
            child.wait()
        self.namespace.close()

    def _plug_in(self) -> None:
        number, name = self.number, self.namespace.name
        run(
            f"ip link add eth0 address {self.mac} netns {name} type veth "
            f"peer name port{number} netns {self._switch.name}".split()
        )
        self._switch.ip(f"link set port{number} master br0 up")
        self.namespace.ip(f"address add {self.address}/24 dev eth0")
        self.namespace.ip("link set eth0 up")
        # What has no better way goes out in the clear, as on every machine.
        self.namespace.ip(f"route add default via {SWITCH_ADDRESS}")

    def _boot(self) -> None:
        unshare = "unshare --mount --propagation slave --pid --fork --kill-child --mount-proc"
        self._first = subprocess.Popen(
            [
                *("ip", "netns", "exec", self.namespace.name, *_DIES_WITH_US, *unshare.split()),
                *("sh", "-c", _HOLD, "hold", *_OWN),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._first.stdout is not None and self._first.stderr is not None
        if not select.select([self._first.stdout], [], [], _BOOT_TIMEOUT)[0]:
            raise DemoError(f"{self.name} cannot be made: no answer after {_BOOT_TIMEOUT:.0f} s")
        if self._first.stdout.readline() != b"ready\n":
            said = self._first.stderr.read().decode(errors="replace").strip()
            raise DemoError(f"{self.name} cannot be made: {said}")

    def _enter(self) -> list[str]:
        assert self._first is not None
        own = f"/proc/{self._first.pid}/ns"
        return [
            *("nsenter", f"--mount={own}/mnt", f"--net={own}/net"),
            *(f"--pid={own}/pid_for_children", "--"),
        ]


class Lab:
    """The underlay, and whatever is plugged into it; all gone when it is closed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pods: dict[int, Namespace] = {}
        self.nodes: dict[int, Node] = {}
        self._made = _make_directories(_OWN)
        self.switch = Namespace("switch")
        try:
            self.switch.ip("link add br0 type bridge")
            self.switch.ip(f"address add {SWITCH_ADDRESS}/24 dev br0")
            self.switch.ip("link set br0 up")
        except BaseException:
            self.switch.close()
            raise

    def switch_on(self, number: int) -> Node:
        self.nodes[number] = Node(number, self.switch, self._directory)
        return self.nodes[number]

    def new_pod(self, number: int) -> Namespace:
        """A namespace for the pod of that node, not attached to anything yet."""
        self._pods[number] = Namespace(f"pod{number}")
        return self._pods[number]

    def switch_off(self, number: int) -> None:
        """A node, and the pod on it."""
        if pod := self._pods.pop(number, None):
            pod.close()
        self.nodes.pop(number).switch_off()

    def close(self) -> None:
        for pod in self._pods.values():
            pod.close()
        for node in self.nodes.values():
            node.switch_off()
        self.switch.close()
        for directory in reversed(self._made):
            # Somebody else may have found a use for it.
            with suppress(OSError):
                directory.rmdir()


def _make_directories(paths: Sequence[str]) -> list[Path]:
    """For nodes to mount something there; those that were not there before."""
    wanted = [way for path in map(Path, paths) for way in (*reversed(path.parents), path)]
    made = [directory for directory in dict.fromkeys(wanted) if not directory.exists()]
    for directory in made:
        directory.mkdir(mode=0o755)
    return made
