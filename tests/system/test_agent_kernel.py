"""The agent's lanes and packet filter under a stock kernel, which has WireGuard, in a guest."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

from interop.cache import directory as cache_directory
from interop.counterparts import COUNTERPARTS
from interop.counterparts.kernel import Kernel
from interop.vm import run_in_guest

pytestmark = [pytest.mark.system, pytest.mark.slow]

_PATIENCE = 900.0
_TESTS = {
    "tests/system/test_agent_lanes.py": "kernel or other_plane",
    "tests/system/test_agent_network.py": "poses or packet_filter_alone",
}


def test_the_agents_lanes_and_network_hold_under_a_stock_kernel() -> None:
    kernel = COUNTERPARTS["kernel-trixie"]
    assert isinstance(kernel, Kernel)
    kernel.version()
    pytest_words = f"{sys.executable} -m pytest -q -p no:cacheprovider"
    script = "\n".join(f"{pytest_words} {file} -k '{names}'" for file, names in _TESTS.items())
    # Below the cache, as /tmp is the guest's own.
    runs = cache_directory() / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=runs) as shared:
        status, text = run_in_guest(kernel, ["sh", "-ec", script], Path(shared), _PATIENCE)
    assert status == 0, text
    assert "skipped" not in text, text
