"""Hosts that lack something: each works all the same, or says exactly what is missing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from itertools import permutations
from pathlib import Path

import pytest

from interop.shell import CommandFailed, wait_until
from tests.cluster import oldkernel
from tests.cluster.agents import CAPABLE, Agents
from tests.cluster.cluster import Cluster
from tests.cluster.controlplane import ControlPlane
from tests.cluster.pod import Pod, detach

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("cluster")]

_NO_NFTABLES, _NO_IPV6, _BARE, _NO_OFFLOADS = 1, 2, 3, 4
# No nft, and an iptables of the older kind.
_WITHOUT_NFTABLES = """
mount --bind /dev/null "$(readlink -f /usr/sbin/nft)"
mount --bind /usr/sbin/xtables-legacy-multi /usr/sbin/xtables-nft-multi
"""
# The kernel does it to every interface, and to those that come; their addresses are gone.
_WITHOUT_IPV6 = "sysctl -qw net.ipv6.conf.all.disable_ipv6=1"
# For interfaces that come only.
_WITHOUT_NEW_IPV6 = "sysctl -qw net.ipv6.conf.default.disable_ipv6=1"
# Neither version of cgroups, and a root that nobody writes to.
_WITHOUT_MUCH = """
mount -t tmpfs -o ro tmpfs /sys/fs/cgroup
mount -o remount,bind,ro /
"""
_RAW = tuple(word.replace("+net_admin", "+net_admin,+net_raw") for word in CAPABLE)
_NOTHING = tuple(word.replace(",+net_admin", "") for word in CAPABLE)
_PATIENCE = 120.0
_TRIES_OFFLOADS = """
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for option in (103, 104):
    try:
        sock.setsockopt(socket.IPPROTO_UDP, option, 1)
    except OSError as error:
        print(error.strerror)
"""


@pytest.fixture(scope="module")
def agents(installed: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agents]:
    """Four old hosts and a new one, none of which has an agent yet."""
    directory = tmp_path_factory.mktemp("old")
    with Cluster(installed, directory, "old", 5) as cluster, cluster.no_plaintext():
        for number, lacks in (
            (_NO_NFTABLES, _WITHOUT_NFTABLES),
            (_NO_IPV6, _WITHOUT_IPV6),
            (_BARE, _WITHOUT_MUCH),
            (_NO_OFFLOADS, _WITHOUT_NEW_IPV6),
        ):
            cluster.nodes[number - 1].run("sh", "-ec", lacks)
        agents = Agents(cluster, "--keepalive=5s")
        agents.prefixes[_NO_OFFLOADS] = (sys.executable, oldkernel.__file__, *CAPABLE)
        yield agents


def _start_refused(agents: Agents, number: int, prefix: tuple[str, ...]) -> tuple[int, str]:
    """The exit status, and what an agent says that is started so."""
    before = agents.prefixes.get(number, CAPABLE)
    agents.prefixes[number] = prefix
    seen = _length(agents, number)
    agents.start_agent(number)
    agents.prefixes[number] = before
    return agents.wait_agent(number, _PATIENCE), agents.log(number)[seen:]


def _length(agents: Agents, number: int) -> int:
    """Of the agent's log so far."""
    return len(agents.log(number)) if agents.has_log(number) else 0


def _problems(agents: Agents, number: int) -> list[str]:
    told = agents.status(number) or {"problems": []}
    return [problem["what"] for problem in told["problems"]]


def test_an_agent_that_may_do_nothing_says_what_it_needs(agents: Agents) -> None:
    agents.start_launcher(5)
    status, said = _start_refused(agents, 5, _NOTHING)
    agents.stop_launcher(5)
    assert status == 1
    assert "give the agent CAP_NET_ADMIN" in said.splitlines()[-1], said


def test_a_data_plane_that_may_do_nothing_says_what_it_needs(agents: Agents) -> None:
    seen = _length(agents, 5)
    agents.prefixes[5] = _NOTHING
    agents.start_launcher(5)
    del agents.prefixes[5]
    agents.start_agent(5)
    wait_until("it says so", lambda: "CAP_NET_ADMIN" in agents.log(5)[seen:], _PATIENCE)
    agents.kill_agent(5)
    agents.stop_launcher(5)


def test_an_iptables_of_the_older_kind_needs_one_capability_more(agents: Agents) -> None:
    agents.start_launcher(_NO_NFTABLES)
    status, said = _start_refused(agents, _NO_NFTABLES, CAPABLE)
    agents.stop_launcher(_NO_NFTABLES)
    assert status == 1
    assert "give the agent CAP_NET_RAW as well" in said.splitlines()[-1], said


@pytest.fixture(scope="module")
def pods(agents: Agents) -> list[Pod]:
    agents.prefixes[_NO_NFTABLES] = _RAW
    for number in agents.numbers:
        agents.start_launcher(number)
        agents.start_agent(number)
    agents.wait_ready()
    return [agents.cluster.pod(number, "a") for number in agents.numbers]


def test_pods_of_all_hosts_reach_each_other(agents: Agents, pods: list[Pod]) -> None:
    """Over IPv6 as well, also where new interfaces have none by default."""
    for one, other in permutations(pods, 2):
        for version in one.addresses.keys() & other.addresses.keys():
            one.ping(other.addresses[version], 8000)


def test_only_where_ipv6_is_switched_off_for_all_pods_have_none(
    agents: Agents, pods: list[Pod]
) -> None:
    for number, pod in enumerate(pods, start=1):
        assert set(pod.addresses) == ({4} if number == _NO_IPV6 else {4, 6})
    assert _says_ipv6_is_off(agents, _NO_IPV6)
    assert not any(_says_ipv6_is_off(agents, number) for number in agents.numbers[2:])


def _says_ipv6_is_off(agents: Agents, number: int) -> bool:
    said = "IPv6 is switched off on this node: its pods cannot reach fd00:244:"
    return any(problem.startswith(said) for problem in _problems(agents, number))


def test_ipv6_may_be_switched_off_and_on_again(agents: Agents, pods: list[Pod]) -> None:
    """On a host whose pods have it: what they say meanwhile goes nowhere."""
    bare, new = pods[_BARE - 1], pods[-1]
    node = agents.cluster.nodes[_BARE - 1]
    node.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
    wait_until("it says so", partial(_says_ipv6_is_off, agents, _BARE), _PATIENCE, every=1)
    with pytest.raises(CommandFailed):
        bare.ping(new.addresses[6])
    bare.ping(new.addresses[4])
    node.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0")
    wait_until("it is on", lambda: not _says_ipv6_is_off(agents, _BARE), _PATIENCE, every=1)
    bare.ping(new.addresses[6])


@pytest.mark.parametrize("number", [_NO_NFTABLES, _NO_IPV6, _BARE, _NO_OFFLOADS])
def test_a_stream_goes_both_ways(agents: Agents, pods: list[Pod], number: int) -> None:
    old, new = pods[number - 1], pods[-1]
    for one, other in ((old, new), (new, old)):
        _stream(one, other)


def _stream(one: Pod, other: Pod) -> None:
    data = bytes(range(256)) * 8192
    serve = "import socket, sys; s = socket.create_server((sys.argv[1], 4701)); print(flush=True)"
    serve += "; c, _ = s.accept(); n = 0\nwhile d := c.recv(65536): n += len(d)\nprint(n)"
    argv = ["ip", "netns", "exec", other.namespace.name, sys.executable, "-c", serve]
    address = other.addresses[4]
    with subprocess.Popen([*argv, address], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "\n"
        with one.socket(1, 4) as sock:
            sock.settimeout(30)
            sock.connect((address, 4701))
            sock.sendall(data)
        assert server.communicate(timeout=30)[0] == f"{len(data)}\n"


def test_each_host_really_lacks_what_it_is_to_lack(agents: Agents, pods: list[Pod]) -> None:
    nodes = agents.cluster.nodes
    with pytest.raises(CommandFailed):
        nodes[_NO_NFTABLES - 1].run("nft", "list", "ruleset")
    assert "legacy" in nodes[_NO_NFTABLES - 1].run("iptables", "--version")
    # First of all, in every hook.
    rules = nodes[_NO_NFTABLES - 1].run("iptables-save", "-t", "raw")
    first = next(line for line in rules.splitlines() if line.startswith("-A PREROUTING"))
    assert first == "-A PREROUTING -j WGPY-PREROUTING"
    assert nodes[_NO_IPV6 - 1].run("ip", "-6", "addr", "show", "dev", "eth0") == ""
    with pytest.raises(CommandFailed, match="Read-only file system"):
        nodes[_BARE - 1].run("touch", "/usr/here")
    assert nodes[_BARE - 1].run("ls", "/sys/fs/cgroup") == ""
    words = (*agents.prefixes[_NO_OFFLOADS], sys.executable, "-c", _TRIES_OFFLOADS)
    assert nodes[_NO_OFFLOADS - 1].run(*words) == "Protocol not available\n" * 2


def test_what_a_host_lacks_and_cannot_make_good_is_told(agents: Agents, pods: list[Pod]) -> None:
    told = "pods of this node can pose as each other: there is no nftables"
    assert told in _problems(agents, _NO_NFTABLES)


@pytest.mark.endurance
def test_keys_rotate_on_all_of_them(agents: Agents, pods: list[Pod]) -> None:
    """All at once."""

    def keys(number: int) -> set[str]:
        return {lane["publicKey"] for lane in (agents.object(number) or {})["spec"]["lanes"]}

    before = {number: keys(number) for number in agents.numbers}
    for number in agents.numbers:
        agents.run(number, "rotate")

    def rotated(number: int) -> bool:
        return not keys(number) & before[number] and agents.ready(number)

    for number in agents.numbers:
        wait_until(f"node {number} has new keys", partial(rotated, number), 400, every=1)
    for one, other in permutations(pods, 2):
        one.ping(other.addresses[4])


@pytest.mark.parametrize("number", [_NO_NFTABLES, _BARE])
def test_such_a_host_is_left_as_it_was(agents: Agents, pods: list[Pod], number: int) -> None:
    node = agents.cluster.nodes[number - 1]
    agents.stop_agent(number)
    detach(pods[number - 1])
    agents.stop_launcher(number)
    agents.run(number, "uninstall")
    for program in ("iptables-save", "ip6tables-save"):
        assert "WGPY" not in node.run(program)
    assert "wgpy" not in node.run("ip", "link") + node.run("ip", "rule")
    assert not list(Path(node.path("/run/wgpy")).iterdir())
