"""Which packet filter a host gets."""

from pathlib import Path

import pytest

from agent.network import iptables
from agent.network.base import NetworkError
from agent.network.firewall import Firewall, open_firewall
from agent.network.iptables import IptablesFirewall
from agent.network.ruleset import FirewallDesired


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host that has no programs but those put here."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def _program(directory: Path, name: str, script: str = "") -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


# Of a kernel that has not what they need.
_NOT_FOR_NFT = "echo 'Could not fetch rule set generation id: Not supported' >&2; exit 1"
_NOT_FOR_US = "echo 'Cannot initialize: Permission denied (you must be root)' >&2; exit 1"


def _iptables(directory: Path, variant: str = "", save: str = "") -> None:
    for name in ("iptables", "ip6tables"):
        _program(directory, f"{name}{variant}-save", save)
        _program(directory, f"{name}{variant}-restore", 'echo "$0" >> "${0%/*}/used"')


def test_nftables_where_it_works(programs: Path) -> None:
    _program(programs, "nft")
    _iptables(programs)
    assert isinstance(open_firewall(), Firewall)


def test_iptables_where_nft_is_missing_or_its_kernel_has_none(programs: Path) -> None:
    _iptables(programs)
    assert isinstance(open_firewall(), IptablesFirewall)
    _program(programs, "nft", "echo 'Error: Protocol not supported' >&2; exit 1")
    assert isinstance(open_firewall(), IptablesFirewall)


def test_the_older_iptables_where_the_newer_one_has_no_kernel_either(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iptables, "present_families", lambda: [4, 6])
    _iptables(programs, save=_NOT_FOR_NFT)
    _iptables(programs, "-legacy")
    open_firewall().reconcile(FirewallDesired())
    used = [Path(line).name for line in (programs / "used").read_text().split()]
    assert used == ["iptables-legacy-restore", "ip6tables-legacy-restore"]


def test_without_the_capability_of_the_older_one_the_advice_is_to_give_it(programs: Path) -> None:
    _iptables(programs, save=_NOT_FOR_NFT)
    _iptables(programs, "-legacy", save=_NOT_FOR_US)
    with pytest.raises(NetworkError, match="Not supported.*Permission denied") as caught:
        open_firewall()
    assert "CAP_NET_RAW" in caught.value.advice


def test_what_is_not_permitted_is_no_reason_to_fall_back(programs: Path) -> None:
    _iptables(programs)
    _program(programs, "nft", "echo 'Operation not permitted (you must be root)' >&2; exit 1")
    with pytest.raises(NetworkError, match="CAP_NET_ADMIN"):
        open_firewall()


def test_a_host_without_any_is_told(programs: Path) -> None:
    with pytest.raises(
        NetworkError, match="no packet filter: the program iptables-save is missing"
    ):
        open_firewall()
