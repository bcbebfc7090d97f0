"""Where in FORWARD our rule is, and when there is one at all; whom of iptables it asks."""

from pathlib import Path

import pytest

from agent.network import forwarding
from agent.network.base import NetworkError
from agent.network.forwarding import Forwarding, ForwardingDesired, forwarding_text

DEVICES = ("wgpy-pods", "wgpy0")
DESIRED = ForwardingDesired(DEVICES)
OWN = [
    "-A WGPY-ACCEPT -i wgpy-pods -j ACCEPT",
    "-A WGPY-ACCEPT -o wgpy-pods -j ACCEPT",
    "-A WGPY-ACCEPT -i wgpy0 -j ACCEPT",
    "-A WGPY-ACCEPT -o wgpy0 -j ACCEPT",
]
JUMP = "-A FORWARD -j WGPY-ACCEPT"
POLICY = "-A FORWARD -s 10.244.1.5/32 -j KUBE-POD-FW"
REJECT = "-A FORWARD -j REJECT --reject-with icmp-host-prohibited"


def saved(policy: str, *rules: str, chain: bool = False) -> str:
    chains = [":INPUT ACCEPT [0:0]", f":FORWARD {policy} [0:0]"]
    if chain:
        chains.append(":WGPY-ACCEPT - [0:0]")
    return "\n".join(["# a comment", "*filter", *chains, *rules, "COMMIT", ""])


def added(position: int, *before: str) -> str:
    middle = [":WGPY-ACCEPT - [0:0]", *OWN, *before, f"-I FORWARD {position} -j WGPY-ACCEPT"]
    return "\n".join(["*filter", *middle, "COMMIT", ""])


def test_a_host_that_forwards_is_left_alone() -> None:
    for text in ("", saved("ACCEPT"), saved("ACCEPT", POLICY)):
        assert forwarding_text(text, DEVICES) == ""


def test_after_what_others_say_and_before_all_is_dropped() -> None:
    assert forwarding_text(saved("DROP", POLICY), DEVICES) == added(2)
    assert forwarding_text(saved("ACCEPT", POLICY, REJECT, POLICY), DEVICES) == added(2)


def test_what_is_as_it_should_be_is_not_touched() -> None:
    for rules in ((JUMP,), (POLICY, JUMP), (JUMP, REJECT), (JUMP, REJECT, POLICY)):
        assert forwarding_text(saved("DROP", *rules, *OWN, chain=True), DEVICES) == ""


def test_a_comment_is_no_condition() -> None:
    drop = '-A FORWARD -m comment --comment "drop all -i eth0 \\"here\\"" -j DROP'
    assert forwarding_text(saved("ACCEPT", POLICY, drop), DEVICES) == added(2)
    some = '-A FORWARD -i eth0 -m comment --comment "-j DROP" -j DROP'
    assert forwarding_text(saved("ACCEPT", some), DEVICES) == ""


def test_a_chain_that_only_drops_is_given_up_at_as_well() -> None:
    asked, end = "-A FORWARD -j ufw-before-forward", "-A FORWARD -j ufw-reject-forward"
    before = "-A ufw-before-forward -p icmp -j ACCEPT"
    reject = "-A ufw-reject-forward -j REJECT --reject-with icmp-port-unreachable"
    assert forwarding_text(saved("ACCEPT", asked, end, before, reject), DEVICES) == added(2)
    assert forwarding_text(saved("ACCEPT", asked, end, before), DEVICES) == ""


def test_what_has_come_to_be_elsewhere_is_moved() -> None:
    gone = "-D FORWARD -j WGPY-ACCEPT"
    text = saved("DROP", REJECT, JUMP, *OWN, chain=True)
    assert forwarding_text(text, DEVICES) == added(1, gone)
    # A policy that came after us holds.
    text = saved("DROP", JUMP, POLICY, *OWN, chain=True)
    assert forwarding_text(text, DEVICES) == added(2, gone)
    text = saved("DROP", JUMP, JUMP, *OWN, chain=True)
    assert forwarding_text(text, DEVICES) == added(1, gone, gone)


def test_a_chain_that_was_altered_is_made_anew() -> None:
    text = saved("DROP", JUMP, *OWN[1:], chain=True)
    assert forwarding_text(text, DEVICES) == added(1, "-D FORWARD -j WGPY-ACCEPT")


def test_it_goes_when_it_is_not_needed_any_more() -> None:
    gone = "*filter\n-D FORWARD -j WGPY-ACCEPT\n-F WGPY-ACCEPT\n-X WGPY-ACCEPT\nCOMMIT\n"
    assert forwarding_text(saved("ACCEPT", JUMP, *OWN, chain=True), DEVICES) == gone
    assert forwarding_text(saved("DROP", JUMP, *OWN, chain=True), ()) == gone
    assert forwarding_text(saved("DROP"), ()) == ""


REFUSED = "echo 'iptables: Permission denied (you must be root)' >&2; exit 4"
UNABLE = "echo 'Failed to initialize nft: Protocol not supported' >&2; exit 1"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Has IPv4, the programs that are put here, and the legacy tables in ip_tables_names."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(forwarding, "present_families", lambda: [4])
    monkeypatch.setattr(forwarding, "_PROC_NET", tmp_path)
    return tmp_path


def program(host: Path, name: str, script: str) -> None:
    path = host / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def closed(host: Path, variant: str) -> None:
    """A variant whose FORWARD drops; what it is told to make is in the file `made`."""
    program(host, f"iptables{variant}-save", f"echo '{saved('DROP')}'")
    made = f"{host}/made{variant}"
    program(
        host, f"iptables{variant}-restore", f'while read -r line; do echo "$line"; done > {made}'
    )


def test_each_variant_that_is_in_use_is_asked(host: Path) -> None:
    closed(host, "-nft")
    closed(host, "-legacy")
    assert Forwarding().reconcile(DESIRED) == ["iptables-nft: packets of pods are forwarded"]
    (host / "ip_tables_names").write_text("nat\nfilter\n")
    assert len(Forwarding().reconcile(DESIRED)) == 2
    assert (host / "made-legacy").read_text() == added(1)


def test_the_only_variant_may_have_no_name_of_its_own(host: Path) -> None:
    assert Forwarding().reconcile(DESIRED) == []
    closed(host, "")
    assert Forwarding().reconcile(DESIRED) == ["iptables: packets of pods are forwarded"]
    assert (host / "made").read_text() == added(1)


def test_what_the_kernel_has_not_forbids_nothing(host: Path) -> None:
    program(host, "iptables-nft-save", UNABLE)
    resource = Forwarding()
    assert resource.reconcile(DESIRED) == []
    assert resource.unknown is None


def test_what_may_not_be_read_is_told_with_the_capability(host: Path) -> None:
    (host / "ip_tables_names").write_text("filter\n")
    program(host, "iptables-legacy-save", REFUSED)
    resource = Forwarding()
    assert resource.reconcile(DESIRED) == []
    assert resource.unknown is not None
    assert "iptables-legacy-save: " in resource.unknown.what
    assert resource.unknown.advice == "give the agent CAP_NET_RAW as well"
    closed(host, "-legacy")
    assert len(resource.reconcile(DESIRED)) == 1
    assert resource.unknown is None


def test_a_table_in_use_that_cannot_be_listed_is_a_failure(host: Path) -> None:
    (host / "ip_tables_names").write_text("filter\n")
    program(host, "iptables-legacy-save", UNABLE)
    with pytest.raises(NetworkError, match="iptables-legacy-save"):
        Forwarding().reconcile(DESIRED)
