"""What pods and nodes say to each other arrives, and none of it is seen on the way."""

from __future__ import annotations

import contextlib
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import pytest

from interop.netns import stop
from interop.shell import wait_until
from tests.cluster.agents import Agents
from tests.cluster.plaintext import MARKER
from tests.cluster.pod import Pod

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("cluster")]

VERSIONS = pytest.mark.parametrize("version", [4, 6])
_SIZES = (0, 1, 1000, 1372, 1432, 1500, 8000, 60_000)
_PORT = 4700
_STREAM = 1 << 20
_TIMEOUT = 30.0
_FETCH = """
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=30).read().decode())
"""


@pytest.fixture(scope="module")
def pods(agents: Agents) -> list[Pod]:
    """One on each node, and a second one on the first."""
    return [*(agents.cluster.pod(n, "a") for n in agents.numbers), agents.cluster.pod(1, "b")]


@VERSIONS
def test_every_pod_pings_every_pod_with_small_and_large_packets(
    pods: list[Pod], version: int
) -> None:
    for one, other in permutations(pods, 2):
        for size in (56, 1400, 8000):
            one.ping(other.addresses[version], size, _TIMEOUT, attempts=1)


@VERSIONS
def test_datagrams_of_all_sizes_go_from_every_pod_to_every_pod(
    pods: list[Pod], version: int
) -> None:
    for one, other in permutations(pods, 2):
        with _socket(other, socket.SOCK_DGRAM, version) as there:
            there.bind((other.addresses[version], _PORT))
            with _socket(one, socket.SOCK_DGRAM, version) as here:
                for size in _SIZES:
                    payload = (MARKER * (size // len(MARKER) + 1))[:size]
                    here.sendto(payload, (other.addresses[version], _PORT))
                    data, (source, *_) = there.recvfrom(65535)
                    assert data == payload
                    # No address was translated on the way.
                    assert source == one.addresses[version]


@VERSIONS
def test_a_stream_goes_both_ways_between_every_two_pods(pods: list[Pod], version: int) -> None:
    for one, other in permutations(pods, 2):
        with (
            _listening(other, version) as listening,
            _socket(one, socket.SOCK_STREAM, version) as here,
        ):
            here.connect((other.addresses[version], _PORT))
            there, (source, *_) = listening.accept()
            there.settimeout(_TIMEOUT)
            assert source == one.addresses[version]
            with there:
                _exchange(here, there)


def _exchange(one: socket.socket, other: socket.socket) -> None:
    """So much each way at once, on one connection."""
    text = MARKER * (_STREAM // len(MARKER))
    received: dict[socket.socket, bytes] = {}

    def read(end: socket.socket) -> None:
        got = bytearray()
        while len(got) < len(text) and (data := end.recv(65536)):
            got += data
        received[end] = bytes(got)

    jobs = [
        threading.Thread(target=job, args=arguments)
        for end in (one, other)
        for job, arguments in ((read, (end,)), (end.sendall, (text,)))
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(_TIMEOUT)
    assert received == {one: text, other: text}


@VERSIONS
def test_nodes_and_pods_of_other_nodes_reach_each_other(
    agents: Agents, pods: list[Pod], version: int
) -> None:
    for number, node in enumerate(agents.cluster.nodes, start=1):
        for pod in pods:
            if pod.node is not node:
                inner = agents.cluster.internal_ips(number)[0 if version == 4 else 1]
                pod.ping(inner, patience=_TIMEOUT, attempts=1)
                for size in (56, 8000):
                    words = f"ping -n -c 1 -W {_TIMEOUT} -s {size} {pod.addresses[version]}"
                    node.run(*words.split())


# As kube-proxy has them: a Service's address, and a port of every node.
_SERVICE = """
table inet service {{
  chain prerouting {{
    type nat hook prerouting priority dstnat
    ip daddr 10.96.0.10 tcp dport 80 dnat ip to {v4}:{port}
    ip6 daddr fd00:96::10 tcp dport 80 dnat ip6 to [{v6}]:{port}
    fib daddr type local tcp dport 30080 meta mark set 0x4000
    fib daddr type local tcp dport 30080 meta nfproto ipv4 dnat ip to {v4}:{port}
    fib daddr type local tcp dport 30080 meta nfproto ipv6 dnat ip6 to [{v6}]:{port}
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat
    meta mark 0x4000 masquerade fully-random
  }}
}}
"""


@pytest.fixture
def service(agents: Agents, pods: list[Pod]) -> Iterator[Pod]:
    """The pod behind it, on another node than the one that knows it."""
    node, server = agents.cluster.nodes[0], pods[1]
    rules = _SERVICE.format(v4=server.addresses[4], v6=server.addresses[6], port=_PORT)
    node.run("nft", "-f", "-", stdin=rules)
    yield server
    node.run("nft", "delete", "table", "inet", "service")


@VERSIONS
def test_a_service_whose_pod_is_on_another_node_is_reached_encrypted(
    pods: list[Pod], service: Pod, version: int
) -> None:
    with (
        _listening(service, version) as listening,
        _socket(pods[0], socket.SOCK_STREAM, version) as here,
    ):
        here.connect(({4: "10.96.0.10", 6: "fd00:96::10"}[version], 80))
        there, (source, *_) = listening.accept()
        there.settimeout(_TIMEOUT)
        assert source == pods[0].addresses[version]
        with there:
            _exchange(here, there)


@VERSIONS
def test_from_the_first_node_on_what_comes_from_outside_is_encrypted(
    agents: Agents, service: Pod, version: int
) -> None:
    """Up to there it is the client's own matter, so no marker is in it."""
    outside = agents.cluster.switch
    family = {4: socket.AF_INET, 6: socket.AF_INET6}[version]
    first = agents.cluster.internal_ips(1)[0 if version == 4 else 1]
    with (
        _listening(service, version) as listening,
        outside.socket(family, socket.SOCK_STREAM) as client,
    ):
        client.settimeout(_TIMEOUT)
        client.connect((first, 30080))
        there, (source, *_) = listening.accept()
        with there:
            there.settimeout(_TIMEOUT)
            # That of node 1 in the overlay.
            shown = agents.cluster.nodes[0].run(*["ip", "-br", "address", "show", "wgpy0"])
            assert source in shown.replace("/", " ").split()
            for one, other in ((client, there), (there, client)):
                one.sendall(b"in and out")
                assert other.recv(100) == b"in and out"


@pytest.mark.parametrize("server", [0, 3], ids=["own node", "other node"])
def test_a_name_is_looked_up_at_a_server_in_a_pod(
    agents: Agents, pods: list[Pod], server: int
) -> None:
    client, there = pods[4], pods[server]
    with _names(there, agents.cluster.directory) as served, _resolver(client, served):
        answer = client.run("getent", "ahosts", "secret.example")
    assert {line.split()[0] for line in answer.splitlines()} == {"192.0.2.53", "2001:db8::53"}


def test_metrics_of_every_node_are_scraped_from_a_pod(agents: Agents, pods: list[Pod]) -> None:
    for number in agents.numbers:
        url = f"http://{agents.metrics_address(number)}/metrics"
        text = pods[0].run(sys.executable, "-c", _FETCH, url)
        assert "wgpy_peers_ready 3.0" in text.splitlines()
        assert f'wgpy_info{{backend="{agents.plane(number)}"' in text


@contextlib.contextmanager
def _names(pod: Pod, directory: Path) -> Iterator[str]:
    """A name server in a pod, and where it serves."""
    address = pod.addresses[4]
    records = ["--host-record=secret.example,192.0.2.53,2001:db8::53"]
    with (directory / "dnsmasq.log").open("wb") as log:
        argv = ["dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--pid-file="]
        argv += [f"--listen-address={address}", "--bind-interfaces", "--user=root", *records]
        child = pod.namespace.start(*argv, output=log)
    try:
        wait_until("the name server listens", lambda: ":53 " in pod.run("ss", "-Huln"), 60)
        yield address
    finally:
        stop(child)


@contextlib.contextmanager
def _resolver(pod: Pod, server: str) -> Iterator[None]:
    """The pod's /etc/resolv.conf, as ip-netns(8) has it."""
    directory = Path("/etc/netns") / pod.namespace.name
    directory.mkdir(parents=True)
    try:
        (directory / "resolv.conf").write_text(f"nameserver {server}\n")
        yield
    finally:
        shutil.rmtree(directory)


def _listening(pod: Pod, version: int) -> socket.socket:
    made = _socket(pod, socket.SOCK_STREAM, version)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((pod.addresses[version], _PORT))
    made.listen()
    return made


def _socket(pod: Pod, kind: int, version: int) -> socket.socket:
    made = pod.socket(kind, version)
    made.settimeout(_TIMEOUT)
    return made
