"""Settings, on a tree of files instead of /proc/sys."""

import shutil
from pathlib import Path

import pytest

from agent.network import sysctls as module
from agent.network.base import NetworkError
from agent.network.sysctls import Sysctls, SysctlsDesired, node_sysctls, usable_families

_BOTH = node_sysctls(["wgpy0", "wgpy1"], [4, 6])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host that forwards nothing, with a link that learns its default route from a router."""
    settings = {
        "net/ipv4/ip_forward": "0",
        "net/ipv6/conf/all/forwarding": "0",
        "net/bridge/bridge-nf-call-iptables": "0",
        "net/ipv6/conf/eth0/accept_ra": "1",
        "net/ipv6/conf/eth1/accept_ra": "0",
    }
    for lane in ("wgpy0", "wgpy1"):
        settings |= {
            f"net/ipv4/conf/{lane}/forwarding": "0",
            f"net/ipv4/conf/{lane}/rp_filter": "1",
            f"net/ipv6/conf/{lane}/forwarding": "0",
            f"net/ipv6/conf/{lane}/disable_ipv6": "0",
        }
    for key, value in settings.items():
        path = tmp_path / "sys" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value + "\n")
    return tmp_path / "sys"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "run" / "sysctls.json"


def _tree(root: Path) -> dict[str, str]:
    return {str(p.relative_to(root)): p.read_text().strip() for p in root.rglob("*") if p.is_file()}


def test_what_differs_is_set_and_then_nothing(root: Path, state: Path) -> None:
    sysctls = Sysctls(root, state)
    changed = sysctls.reconcile(_BOTH)
    assert "sysctl net/ipv4/ip_forward is 1, it was 0" in changed
    after = _tree(root)
    assert after["net/ipv4/conf/wgpy0/rp_filter"] == "2"
    assert after["net/ipv6/conf/wgpy1/forwarding"] == "1"
    assert after["net/bridge/bridge-nf-call-iptables"] == "1"
    assert sysctls.reconcile(_BOTH) == []


def test_a_host_that_listens_to_routers_goes_on_when_it_becomes_one(
    root: Path, state: Path
) -> None:
    Sysctls(root, state).reconcile(_BOTH)
    after = _tree(root)
    assert after["net/ipv6/conf/eth0/accept_ra"] == "2"
    assert after["net/ipv6/conf/eth1/accept_ra"] == "0"


def test_removal_restores_what_was_there_after_any_number_of_restarts(
    root: Path, state: Path
) -> None:
    before = _tree(root)
    for _ in range(3):
        (root / "net/ipv4/ip_forward").write_text("0")
        Sysctls(root, state).reconcile(_BOTH)
    assert _tree(root) != before
    Sysctls(root, state).remove()
    assert _tree(root) == before
    assert not state.exists()
    Sysctls(root, state).remove()


def test_only_ipv4_is_touched_in_an_ipv4_cluster(root: Path, state: Path) -> None:
    Sysctls(root, state).reconcile(node_sysctls(["wgpy0"], [4]))
    assert _tree(root)["net/ipv6/conf/all/forwarding"] == "0"


def test_interfaces_that_are_not_there_yet_are_passed_over(root: Path, state: Path) -> None:
    changed = Sysctls(root, state).reconcile(node_sysctls(["wgpy7"], [4, 6]))
    assert not any("wgpy7" in sentence for sentence in changed)


def test_a_kernel_without_ipv6_sets_the_rest_and_is_told(root: Path, state: Path) -> None:
    shutil.rmtree(root / "net/ipv6")
    with pytest.raises(NetworkError, match=r"net/ipv6/conf/all/forwarding") as caught:
        Sysctls(root, state).reconcile(_BOTH)
    assert "sysctl net/ipv4/ip_forward is 1, it was 0" in caught.value.changed


def test_a_damaged_memory_is_started_anew(root: Path, state: Path) -> None:
    state.parent.mkdir()
    state.write_text("{")
    Sysctls(root, state).reconcile(SysctlsDesired((("net/ipv4/ip_forward", "1"),)))
    Sysctls(root, state).remove()
    assert _tree(root)["net/ipv4/ip_forward"] == "0"


def test_the_memory_is_for_root_alone(root: Path, state: Path) -> None:
    Sysctls(root, state).reconcile(_BOTH)
    assert state.stat().st_mode & 0o777 == 0o600


def test_ipv6_is_used_unless_it_is_switched_off_for_all(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default is not for all."""
    monkeypatch.setattr(module, "present_families", lambda: [4, 6])
    conf = root / "net/ipv6/conf"
    for which, value, expected in (
        ("default", "1", [4, 6]),
        ("all", "1", [4]),
        ("all", "0", [4, 6]),
    ):
        (conf / which).mkdir(exist_ok=True)
        (conf / which / "disable_ipv6").write_text(f"{value}\n")
        assert usable_families(root) == expected
    monkeypatch.setattr(module, "present_families", lambda: [4])
    assert usable_families(root) == [4]
