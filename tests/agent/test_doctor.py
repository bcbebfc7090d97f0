"""What the doctor says of a node, by what a host of our making has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from errno import EIO
from typing import Any

import pytest

from agent.backend import Choice
from agent.control import ControlError
from agent.doctor import Finding, examine_node
from agent.network.base import NetworkError
from agent.options import Options, parse
from wgpy.dataplane import Availability, DataPlaneError

Json = dict[str, Any]
OPTIONS = parse(["--port", "7000", "--cni-directory", "/cni"], {"NODE_NAME": "me"})
# As this code says it elsewhere, see wgpy.dataplane.probe.
NO_MODULE = "this kernel has no wireguard module"
NO_TUN = "/dev/net/tun cannot be opened: No such file or directory"
WELL: Json = {
    "version": "1.0",
    "backend": "kernel",
    "problems": [],
    "peers": [{"name": "other", "ready": True}],
}


@dataclass
class FakeHost:
    """A host on which everything is well, but for what a test says."""

    available: Availability = field(default_factory=Availability)
    nftables: bool | NetworkError = True
    versions: Sequence[int] = (4, 6)
    usable: Sequence[int] = (4, 6)
    # By port: whose it is.
    taken: dict[int, str] = field(default_factory=dict)
    interfaces: Sequence[str] | OSError = ("lo", "eth0", "wgpy0", "wgpy1", "wgpy-pods")
    earlier: Sequence[str] | NetworkError = ()
    told: Json | ControlError = field(default_factory=lambda: WELL)
    mtu: int = 1440
    # Bytes of the largest packet that comes through.
    largest: int = 1440

    def planes(self) -> Availability:
        return self.available

    def has_nftables(self) -> bool:
        if isinstance(self.nftables, NetworkError):
            raise self.nftables
        return self.nftables

    def families(self) -> Sequence[int]:
        return self.versions

    def usable_families(self) -> Sequence[int]:
        return self.usable

    def is_free(self, port: int) -> bool:
        return port not in self.taken

    def holder(self, port: int) -> str | None:
        return self.taken.get(port) or None

    def devices(self) -> Sequence[str]:
        if isinstance(self.interfaces, OSError):
            raise self.interfaces
        return self.interfaces

    def preceding(self) -> Sequence[str]:
        if isinstance(self.earlier, NetworkError):
            raise self.earlier
        return self.earlier

    def status(self) -> Json:
        if isinstance(self.told, ControlError):
            raise self.told
        return self.told

    def path_mtu(self, address: str) -> int:
        return self.mtu

    def comes_through(self, address: str, size: int) -> bool:
        return size <= self.largest


def bad(host: FakeHost, options: Options = OPTIONS) -> list[Finding]:
    """What is not in order."""
    return [finding for finding in examine_node(host, options) if finding.verdict != "ok"]


def only(host: FakeHost, options: Options = OPTIONS) -> Finding:
    """The one thing that is not in order: no cause is told as two, and nothing hides the rest."""
    (finding,) = bad(host, options)
    return finding


def said(host: FakeHost, options: Options = OPTIONS) -> list[str]:
    return [f"{finding.verdict}: {finding.what}" for finding in examine_node(host, options)]


def test_of_a_node_that_is_well_all_that_was_looked_at_is_told() -> None:
    assert said(FakeHost()) == [
        "ok: the kernel data plane is available",
        "ok: the userspace data plane is available",
        "ok: nftables works",
        "ok: this host has IPv4 and IPv6",
        "ok: UDP port 7000 is free",
        "ok: UDP port 7001 is free",
        "ok: no interface of another pod network",
        "ok: no file of the container runtime comes before 10-wgpy.conflist",
        "ok: an agent runs, version 1.0, kernel data plane",
    ]


def test_a_node_without_any_data_plane_lacks_both() -> None:
    host = FakeHost(available=Availability(NO_MODULE, NO_TUN))
    for choice in ("auto", "kernel", "userspace"):
        found = bad(host, replace(OPTIONS, dataplane=choice))
        assert [(f.verdict, f.what) for f in found] == [
            ("error", f"no kernel data plane: {NO_MODULE}"),
            ("error", f"no userspace data plane: {NO_TUN}"),
        ]
        assert all(f.advice for f in found)


@pytest.mark.parametrize(
    ("available", "choice", "missing"),
    [
        (Availability(NO_MODULE), "auto", None),
        (Availability(NO_MODULE), "userspace", None),
        (Availability(NO_MODULE), "kernel", f"no kernel data plane: {NO_MODULE}"),
        (Availability("", NO_TUN), "auto", None),
        (Availability("", NO_TUN), "kernel", None),
        (Availability("", NO_TUN), "userspace", f"no userspace data plane: {NO_TUN}"),
    ],
)
def test_one_data_plane_is_enough_unless_the_other_was_chosen(
    available: Availability, choice: Choice, missing: str | None
) -> None:
    host, options = FakeHost(available=available), replace(OPTIONS, dataplane=choice)
    assert [f.what for f in bad(host, options)] == ([missing] if missing else [])
    # Why the other is not there is told all the same.
    reason = available.kernel_reason or available.userspace_reason
    assert any(reason in line for line in said(host, options))


def test_a_host_without_nftables_is_warned_of_what_iptables_cannot() -> None:
    found = only(FakeHost(nftables=False))
    assert found.verdict == "warning"
    assert "pods of this node can pose as each other" in found.what
    assert found.advice == "install nftables"


def test_a_host_without_any_packet_filter_is_in_error() -> None:
    found = only(FakeHost(nftables=NetworkError("this host has no packet filter", "install it")))
    assert (found.verdict, found.what) == ("error", "this host has no packet filter; install it")


def test_a_kernel_without_ipv6_and_one_where_it_is_off_are_told_apart() -> None:
    without = only(FakeHost(versions=(4,), usable=(4,)))
    off = only(FakeHost(usable=(4,)))
    assert (without.verdict, without.what) == ("warning", "this host has no IPv6")
    assert (off.verdict, off.what) == ("warning", "IPv6 is switched off on this host")
    assert "disable_ipv6" in off.advice and "disable_ipv6" not in without.advice


def test_a_port_is_free_or_its_lane_s_or_somebody_else_s() -> None:
    ours = FakeHost(taken={7000: "wgpy0", 7001: "wgpy1"})
    assert bad(ours) == []
    assert "ok: UDP port 7001 is wgpy1's" in said(ours)
    found = only(FakeHost(taken={7001: ""}))
    assert (found.verdict, found.what) == ("error", "UDP port 7001 is somebody else's")
    assert "sport = 7001" in found.advice
    # No process is to be found where it is an interface's; the other lane is as wrong as any.
    found = only(FakeHost(taken={7001: "wgpy0"}))
    assert (found.verdict, found.what) == ("error", "UDP port 7001 is that of wgpy0")
    assert "give wgpy0 another port" in found.advice


def test_interfaces_of_other_pod_networks_are_known_by_their_names() -> None:
    names = ("lo", "vxlan.calico", "eth0", "cali12", "flannel.1", "mycali0")
    found = bad(FakeHost(interfaces=names))
    assert [(f.verdict, f.what.partition(",")[0]) for f in found] == [
        ("warning", "interface cali12 is left by Calico"),
        ("warning", "interface flannel.1 is left by flannel"),
        ("warning", "interface vxlan.calico is left by Calico"),
    ]


def test_a_file_that_the_runtime_takes_instead_of_ours_is_in_error() -> None:
    found = only(FakeHost(earlier=("05-other.conf",)))
    assert (found.verdict, found.advice) == ("error", "remove /cni/05-other.conf")


def test_a_peer_without_a_session_is_in_error() -> None:
    peers = [{"name": "far", "ready": False}, {"name": "near", "ready": True}]
    found = only(FakeHost(told={**WELL, "peers": peers}))
    assert (found.verdict, found.what) == ("error", "no session with far")
    assert "UDP 7000 and 7001" in found.advice


def test_what_the_agent_complains_about_is_passed_on() -> None:
    problems = [
        {"severity": severity, "what": "it", "advice": "do"} for severity in ("error", "warning")
    ]
    found = bad(FakeHost(told={**WELL, "problems": problems}))
    assert found == [Finding("error", "it", "do"), Finding("warning", "it", "do")]


def test_a_node_whose_agent_does_not_run_is_looked_at_all_the_same() -> None:
    found = only(FakeHost(told=ControlError("no agent listens at /run; see")))
    assert found == Finding("warning", "no agent listens at /run; see")


def test_what_cannot_be_looked_at_is_in_error_and_ends_nothing() -> None:
    class Broken(FakeHost):
        def planes(self) -> Availability:
            raise DataPlaneError(EIO, "no answer", "wait")

    found = bad(
        Broken(
            interfaces=PermissionError(1, "Operation not permitted"),
            earlier=NetworkError("/cni: Permission denied"),
            taken={7000: ""},
        )
    )
    assert [finding.verdict for finding in found] == ["error"] * 4
    assert [finding.what.partition(";")[0] for finding in found] == [
        "no answer",
        "UDP port 7000 is somebody else's",
        "[Errno 1] Operation not permitted",
        "/cni: Permission denied",
    ]
    assert said(Broken())[-1] == "ok: an agent runs, version 1.0, kernel data plane"
