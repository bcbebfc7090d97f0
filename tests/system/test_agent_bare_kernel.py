"""The agent's node on a kernel started without IPv6 and built without nftables, in a guest."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from interop.cache import directory as cache_directory
from interop.counterparts import COUNTERPARTS
from interop.counterparts.kernel import Kernel
from interop.vm import run_in_guest

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.xdist_group("agent-guest")]

_PATIENCE = 900.0
_PLANES = ("kernel", "userspace")
# All of netfilter that the guest has.
_IPTABLES = (
    "iptable_raw iptable_mangle iptable_nat iptable_filter nf_conntrack xt_MASQUERADE xt_TCPMSS "
    "xt_addrtype xt_comment xt_tcpudp"
)
_NO_MORE_MODULES = """
echo /bin/false > /proc/sys/kernel/modprobe
test ! -e /proc/net/if_inet6
if nft list ruleset; then exit 1; fi
"""
_OWN = ("/var/lib/cni", "/var/lib/wgpy")


@pytest.fixture(scope="module")
def told() -> dict[str, dict[str, Any]]:
    """What the agent's machine says in there, on either data plane."""
    kernel = COUNTERPARTS["kernel-trixie"]
    assert isinstance(kernel, Kernel)
    kernel.version()
    for directory in _OWN:
        Path(directory).mkdir(parents=True, exist_ok=True)
    script = [f"mount -t tmpfs tmpfs {directory}" for directory in _OWN]
    script.append(_NO_MORE_MODULES)
    words = f"{sys.executable} -m tests.system.barekernel"
    script += [f"mkdir /tmp/{plane}; {words} {plane} /tmp/{plane}" for plane in _PLANES]
    # Below the cache, as /tmp is the guest's own.
    runs = cache_directory() / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=runs) as shared:
        argv = ["sh", "-ec", "\n".join(script)]
        boot = "--append=ipv6.disable=1"
        status, text = run_in_guest(
            kernel, argv, Path(shared), _PATIENCE, boot, netfilter=_IPTABLES
        )
    assert status == 0, text
    objects = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return dict(zip(_PLANES, objects, strict=True))


@pytest.mark.parametrize("plane", _PLANES)
def test_a_node_of_a_dual_stack_cluster_settles(
    told: dict[str, dict[str, Any]], plane: str
) -> None:
    first, *later = told[plane]["turns"]
    assert first
    assert later[-1] == []
    assert not told[plane]["unsettled"]


@pytest.mark.parametrize("plane", _PLANES)
def test_what_it_cannot_have_is_told(told: dict[str, dict[str, Any]], plane: str) -> None:
    assert [what for _, what in told[plane]["problems"]] == [
        "pods of this node can pose as each other: there is no nftables",
        "this node has no IPv6: its pods cannot reach fd00:244::/48",
    ]


@pytest.mark.parametrize("plane", _PLANES)
def test_iptables_stops_what_nftables_would(told: dict[str, dict[str, Any]], plane: str) -> None:
    rules = told[plane]["rules"]
    first = next(rule for rule in rules if rule.startswith("-A PREROUTING"))
    assert first == "-A PREROUTING -j WGPY-PREROUTING"
    leak = '-A WGPY-POSTROUTING -d 10.244.0.0/16 -m comment --comment "wgpy:leak" -j DROP'
    assert leak in rules
