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
from tests.cluster.build import kube_apiserver
from tests.cluster.node import PRIVATE

pytestmark = [pytest.mark.system, pytest.mark.endurance]

_PATIENCE = 1500.0
# The rest of the machine is read-only in there.
_OWN = ("/etc/netns", "/var/lib/cni", "/var/lib/wgpy")


def test_kernel_and_userspace_nodes_understand_each_other() -> None:
    """All of test_agent_traffic, with every other node on the kernel's plane."""
    kernel = COUNTERPARTS["kernel-trixie"]
    assert isinstance(kernel, Kernel)
    kernel.version()
    kube_apiserver()
    for directory in (*PRIVATE, *_OWN):
        Path(directory).mkdir(parents=True, exist_ok=True)
    mounts = "\n".join(f"mount -t tmpfs tmpfs {directory}" for directory in _OWN)
    words = "-m pytest -q -p no:cacheprovider tests/cluster/test_agent_traffic.py"
    runs = cache_directory() / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    # Below the cache, as /tmp is the guest's own.
    with tempfile.TemporaryDirectory(dir=runs) as shared:
        script = f"{mounts}\nmodprobe nft_limit\n{sys.executable} {words}"
        argv = ["sh", "-ec", script]
        status, text = run_in_guest(kernel, argv, Path(shared), _PATIENCE, memory="3G")
    assert status == 0, text
    assert "skipped" not in text, text
