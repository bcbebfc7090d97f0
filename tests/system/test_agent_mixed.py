"""A cluster in a guest whose kernel has WireGuard: nodes on the kernel's and on our data plane."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

from interop.cache import directory as cache_directory
from interop.counterparts import COUNTERPARTS
from interop.counterparts.kernel import Kernel
from interop.vm import run_in_guest
from tests.cluster.conftest import LENT
from tests.cluster.controlplane import GUESTS_HOST, ControlPlane
from tests.cluster.install import install
from tests.cluster.node import PRIVATE
from tests.cluster.slowness import VARIABLE

pytestmark = [pytest.mark.system, pytest.mark.endurance]

_PATIENCE = 5400.0
# An emulated processor, with all nodes on it.
_SLOWNESS = 30
_FILES = ("tests/cluster/mixed.py", "tests/cluster/test_agent_traffic.py")
# The rest of the machine is read-only in there.
_OWN = ("/etc/netns", "/var/lib/cni", "/var/lib/wgpy")
# Nodes have an eth0 of their own, and a veth cannot be made under a name that is taken here.
_NETWORK = """
ip link set eth0 name outside up
ip address replace 10.0.2.15/24 dev outside
"""


def test_kernel_and_userspace_nodes_understand_each_other() -> None:
    """All of test_agent_traffic and of mixed.py, with every other node on the kernel's plane.

    The control plane runs outside, as an API server is too much for an emulated processor.
    """
    kernel = COUNTERPARTS["kernel-trixie"]
    assert isinstance(kernel, Kernel)
    kernel.version()
    for directory in (*PRIVATE, *_OWN):
        Path(directory).mkdir(parents=True, exist_ok=True)
    runs = cache_directory() / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    # Below the cache, as /tmp is the guest's own.
    with tempfile.TemporaryDirectory(dir=runs) as directory:
        shared = Path(directory)
        (shared / "plane").mkdir()
        with ControlPlane(shared / "plane") as plane:
            install(plane.admin)
            plane.lend(GUESTS_HOST, shared / "lent")
            argv = ["sh", "-ec", _script(shared / "lent")]
            options = ("--memory=3G", "--network=user", "--no-dhcp")
            status, text = run_in_guest(kernel, argv, shared, _PATIENCE, *options)
    assert status == 0, text
    assert "skipped" not in text, text


def _script(lent: Path) -> str:
    mounts = "\n".join(f"mount -t tmpfs tmpfs {directory}" for directory in _OWN)
    words = f"-m pytest -v -p no:cacheprovider -o timeout=0 {' '.join(_FILES)}"
    slow = f"{VARIABLE}={_SLOWNESS}"
    return f"{mounts}{_NETWORK}{slow} {LENT}={lent} {sys.executable} {words}"
