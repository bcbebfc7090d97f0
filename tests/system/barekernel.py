"""An agent's node in a dual-stack cluster, on a kernel that has neither IPv6 nor nftables.

usage: python -m tests.system.barekernel PLANE DIRECTORY

A program, run in a guest; it prints one JSON object: for each of three turns what was changed, then
what is not in order, the problems that are told, and the rules of iptables.
"""

from __future__ import annotations

import json
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path

from nacl.bindings import crypto_scalarmult_base

from agent.backend import Backend, Choice
from agent.machine import LANE_NAMES, Machine
from agent.topology import Desired, PeerRoute
from wgpy.protocol.config import AllowedIPChange, Endpoint, InterfaceChange, PeerChange, Secret

_OVERLAY = (ip_network("10.244.0.0/16"), ip_network("fd00:244::/48"))
_OWN = (ip_network("10.244.1.0/24"), ip_network("fd00:244:0:1::/64"))
_FAR = (ip_network("10.244.2.0/24"), ip_network("fd00:244:0:2::/64"))
_NODES = (ip_network("192.0.2.2/32"), ip_network("2001:db8::2/128"))


def lane(number: int) -> InterfaceChange:
    """With one peer, which has both families."""
    peer = PeerChange(
        crypto_scalarmult_base(bytes([2, number] * 16)),
        endpoint=Endpoint("192.0.2.2", 51871 + number),
        allowed_ips=tuple(AllowedIPChange(network) for network in (*_FAR, *_NODES)),
    )
    key = Secret(bytes([8, *[1, number] * 15, 64]))
    return InterfaceChange(private_key=key, listen_port=51871 + number, peers=(peer,))


def main(plane: Choice, directory: Path) -> None:
    addresses = tuple(network.network_address for network in _OWN)
    sources = dict(zip(_FAR, addresses, strict=True))
    desired = Desired(
        lanes=(lane(0), lane(1)),
        addresses=addresses,
        pod_routes=tuple(PeerRoute(n, "peer", 0, 1420, sources[n]) for n in _FAR),
        node_routes=tuple(PeerRoute(n, "peer", 0, 1420) for n in _NODES),
        overlay=_OVERLAY,
        local=_OWN,
        nodes=_NODES,
        problems=(),
    )
    backend = Backend(plane, LANE_NAMES)
    machine = Machine(
        backend,
        directory / "cni",
        Path("/proc/sys"),
        directory / "results",
        directory / "sysctls.json",
    )
    turns = []
    for _ in range(3):
        machine.look()
        turns.append([change for outcome in machine.turn(desired) for change in outcome.changed])
    told = {
        "turns": turns,
        "unsettled": machine.unsettled,
        "problems": [[problem.severity, problem.what] for problem in machine.problems()],
        "rules": subprocess.check_output(["iptables-legacy-save"], text=True).splitlines(),
    }
    backend.remove()
    print(json.dumps(told))


if __name__ == "__main__":
    planes: dict[str, Choice] = {"kernel": "kernel", "userspace": "userspace"}
    main(planes[sys.argv[1]], Path(sys.argv[2]))
