"""Which packet filter a host gets."""

from pathlib import Path

import pytest

from agent.network.base import NetworkError
from agent.network.firewall import Firewall, open_firewall
from agent.network.iptables import IptablesFirewall


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host that has no programs but those put here."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def _program(directory: Path, name: str, script: str = "") -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_nftables_where_it_works(programs: Path) -> None:
    _program(programs, "nft")
    _program(programs, "iptables-restore")
    assert isinstance(open_firewall(), Firewall)


def test_iptables_where_nft_is_missing_or_its_kernel_has_none(programs: Path) -> None:
    _program(programs, "iptables-restore")
    assert isinstance(open_firewall(), IptablesFirewall)
    _program(programs, "nft", "echo 'Error: Protocol not supported' >&2; exit 1")
    assert isinstance(open_firewall(), IptablesFirewall)


def test_what_is_not_permitted_is_no_reason_to_fall_back(programs: Path) -> None:
    _program(programs, "iptables-restore")
    _program(programs, "nft", "echo 'Operation not permitted (you must be root)' >&2; exit 1")
    with pytest.raises(NetworkError, match="CAP_NET_ADMIN"):
        open_firewall()


def test_a_host_without_any_is_told(programs: Path) -> None:
    with pytest.raises(NetworkError, match="no packet filter; install nftables"):
        open_firewall()
