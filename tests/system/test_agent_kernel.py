"""The agent's lanes and packet filter under a stock kernel, which has WireGuard, in a guest."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import pytest

from interop.cache import directory as cache_directory
from interop.counterparts import COUNTERPARTS
from interop.counterparts.kernel import Kernel
from interop.vm import run_in_guest

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.xdist_group("agent-guest")]

_PATIENCE = 900.0
_TESTS = {
    "tests/system/test_agent_lanes.py": "kernel or other_plane",
    "tests/system/test_agent_network.py": "poses or packet_filter_alone",
}


@pytest.fixture(scope="module")
def guest() -> str:
    """What it printed: the tests, and last what the probe says."""
    kernel = COUNTERPARTS["kernel-trixie"]
    assert isinstance(kernel, Kernel)
    kernel.version()
    pytest_words = f"{sys.executable} -m pytest -q -p no:cacheprovider"
    script = [f"{pytest_words} {file} -k '{names}'" for file, names in _TESTS.items()]
    script.append(f"{sys.executable} -m tests.system.probing")
    # Below the cache, as /tmp is the guest's own.
    runs = cache_directory() / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=runs) as shared:
        argv = ["sh", "-ec", "\n".join(script)]
        status, text = run_in_guest(kernel, argv, Path(shared), _PATIENCE)
    assert status == 0, text
    return text


def test_the_agents_lanes_and_network_hold_under_a_stock_kernel(guest: str) -> None:
    assert guest.count(" passed") == len(_TESTS), guest
    assert "skipped" not in guest, guest


def test_the_probe_tells_a_module_that_is_there_from_one_that_is_not(guest: str) -> None:
    """And who may not make interfaces gets no other data plane in its place, but the reason."""
    told = json.loads(next(line for line in guest.splitlines() if line.startswith("{")))
    assert told["present"] == {"kernel": "", "userspace": "", "plane": "kernel"}
    assert "no wireguard module" in told["absent"]["kernel"]
    assert told["absent"]["plane"] == "userspace"
    assert "CAP_NET_ADMIN" in told["forbidden"]["kernel"]
    assert told["forbidden"]["plane"].startswith("none: ")
