"""The agent's watch: what is ours is reported at once, what is not is not."""

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.network.watch import Watch
from interop.shell import run
from tests.system.agentnode import OVERLAY
from tests.system.tunhost import Namespace

pytestmark = pytest.mark.system

_PATIENCE = 30.0


@pytest.fixture
def host() -> Iterator[Namespace]:
    namespace = Namespace(f"an{os.getpid()}e")
    try:
        for name in ("wgpy0", "other"):
            namespace.ip("tuntap", "add", name, "mode", "tun")
            namespace.ip("link", "set", name, "up")
        yield namespace
    finally:
        namespace.remove()


@pytest.fixture
def watch(host: Namespace) -> Iterator[Watch]:
    with host.inside():
        made = Watch(["wgpy0", "wgpy1", "wgpy-pods"], OVERLAY.values())
    with made:
        yield made


def _do(host: Namespace, command: str) -> None:
    with host.inside():
        run(*command.split())


def _changes(watch: Watch) -> frozenset[str]:
    """Once for all that has happened."""
    assert select.select([watch], [], [], _PATIENCE)[0], "no event came"
    return watch.changes()


_OURS = {
    "ip link del wgpy0": {"lanes", "links"},
    "ip tuntap add wgpy1 mode tun": {"lanes", "links"},
    "ip link add wgpy-pods type bridge": {"bridge", "links", "sysctls"},
    "ip link set wgpy0 mtu 1300": {"links"},
    "ip link set wgpy0 down": {"links", "routes"},
    "ip address add 10.244.3.0/32 dev wgpy0": {"links"},
    "ip address add fd00:244::/128 dev wgpy0": {"links"},
    "ip route add 10.244.2.0/24 dev other": {"routes", "guard"},
    "ip route add fd00:244:0:2::/64 dev other": {"routes", "guard"},
    "ip route add 192.0.2.0/24 dev other proto 157": {"routes"},
    "ip route add 192.0.2.0/24 dev other table 5157": {"routes"},
    "ip route add unreachable 2001:db8::/32 table 5157": {"routes"},
    "ip rule add iif wgpy-pods table 5157 priority 5157": {"routes"},
    "ip -6 rule add iif x table 99 protocol 157": {"routes"},
    "nft add table inet wgpy": {"firewall"},
    "nft add table bridge wgpy": {"neighbours"},
    "iptables-nft -P FORWARD DROP": {"forwarding"},
    "ip6tables-nft -A FORWARD -j REJECT": {"forwarding"},
    "sysctl -qw net.ipv4.ip_forward=1": {"sysctls"},
    "sysctl -qw net.ipv4.conf.wgpy0.rp_filter=1": {"sysctls"},
    "sysctl -qw net.ipv6.conf.wgpy0.forwarding=1": {"sysctls"},
}


@pytest.mark.parametrize("command", _OURS)
def test_a_change_of_ours_is_reported(host: Namespace, watch: Watch, command: str) -> None:
    _do(host, command)
    assert _changes(watch) >= _OURS[command]


_PATHS = (
    "ip link set other mtu 1300",
    "ip route add 192.0.2.0/24 dev other",
    "ip route add 0.0.0.0/0 dev other",
    "ip route add ::/0 dev other mtu 1400",
)


@pytest.mark.parametrize("command", _PATHS)
def test_what_may_lead_to_other_nodes_is_a_path(
    host: Namespace, watch: Watch, command: str
) -> None:
    _do(host, command)
    assert _changes(watch) == {"paths"}


def test_a_link_is_resized_when_its_size_is_another_than_before(
    host: Namespace, watch: Watch
) -> None:
    """Also one that came later; and that it comes up is nothing."""
    _do(host, "ip link add pods9 type bridge")
    _do(host, "ip link set pods9 up")
    assert _changes(watch) == frozenset()
    _do(host, "ip link set pods9 mtu 1400")
    assert _changes(watch) == {"paths"}
    _do(host, "ip link set pods9 mtu 1400")
    _do(host, "ip link del pods9")
    assert _changes(watch) == frozenset()


_OTHERS = (
    "ip link add pods9 type bridge",
    "ip link set wgpy0 txqueuelen 77",
    "ip route add 192.0.2.0/24 dev other table 99",
    "ip route add ff00::/8 dev other",
    "ip rule add iif other table 99",
    "nft add table inet other",
    "sysctl -qw net.ipv4.conf.other.rp_filter=1",
)


@pytest.mark.parametrize("command", _OTHERS)
def test_a_change_of_others_is_not_reported(host: Namespace, watch: Watch, command: str) -> None:
    _do(host, command)
    assert _changes(watch) == frozenset()


def test_many_changes_are_reported_once(host: Namespace, watch: Watch) -> None:
    for number in range(20):
        _do(host, f"ip route add 10.244.{number}.0/24 dev wgpy0")
    assert _changes(watch) == {"routes", "guard"}
    assert not select.select([watch], [], [], 0)[0]
    assert watch.changes() == frozenset()


def test_a_lane_that_was_made_again_is_known_by_its_new_index(
    host: Namespace, watch: Watch
) -> None:
    _do(host, "ip link del wgpy0")
    _do(host, "ip link add wgpy0 type bridge")
    watch.changes()
    _do(host, "ip address add 10.244.3.0/32 dev wgpy0")
    assert "links" in _changes(watch)


def test_lost_events_stand_for_everything(host: Namespace, watch: Watch) -> None:
    batch = "".join(
        f"route add 192.0.2.{n % 250}/32 dev other table {n + 1000}\n" for n in range(9000)
    )
    with host.inside():
        run("ip", "-batch", "-", stdin=batch)
    assert watch.changes() >= {"lanes", "links", "guard", "routes", "sysctls", "firewall"}


def test_a_lost_change_of_a_queue_hides_nothing_after_it(host: Namespace, watch: Watch) -> None:
    batch = "".join(f"route add 192.0.2.1/32 dev other table {n + 1000}\n" for n in range(9000))
    with host.inside():
        run("ip", "-batch", "-", stdin=batch)
    _do(host, "ip link set wgpy0 txqueuelen 77")
    assert "lanes" in watch.changes()
    _do(host, "ip link set wgpy0 down")
    assert _changes(watch) >= {"links", "routes"}


def test_files_are_watched_by_the_same_descriptor(host: Namespace, tmp_path: Path) -> None:
    path, results = tmp_path / "10-wgpy.conflist", tmp_path / "results"
    results.mkdir()
    with host.inside():
        made = Watch(["wgpy0"], cni=[path], attachments=results)
    with made:
        path.write_text("{}")
        assert _changes(made) == {"cni"}
        path.unlink()
        assert _changes(made) == {"cni"}
        (results / "wgpy-1-eth0").write_text("{}")
        assert _changes(made) == {"neighbours"}
