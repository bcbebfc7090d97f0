from ipaddress import IPv4Network, ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from agent.model import NodeFacts, Problem
from agent.prefixes import Prefixes, node_address, share_out
from wgpy.protocol.config import Network


def node(name: str, *cidrs: str, ips: tuple[str, ...] = ()) -> NodeFacts:
    networks = tuple(ip_network(cidr) for cidr in cidrs)
    return NodeFacts(name, name, "", networks, tuple(ip_address(ip) for ip in ips))


def test_an_overlap_goes_to_the_first_and_is_reported() -> None:
    problems: list[Problem] = []
    shared = share_out(
        [
            node("old", "10.1.0.0/24", "fd00:1::/64"),
            node("new", "10.1.0.128/25", "fd00:2::/64", ips=("10.1.0.5", "192.0.2.1")),
        ],
        problems,
    )
    assert shared["old"].pods == (ip_network("10.1.0.0/24"), ip_network("fd00:1::/64"))
    assert shared["new"] == Prefixes((ip_network("fd00:2::/64"),), (ip_network("192.0.2.1/32"),))
    assert [problem.what for problem in problems] == [
        "node new does not get 10.1.0.128/25: it overlaps with node old's",
        "node new does not get 10.1.0.5/32: it overlaps with node old's",
    ]


def test_an_address_within_the_nodes_own_prefix_is_no_dispute() -> None:
    problems: list[Problem] = []
    shared = share_out([node("one", "10.1.0.0/24", ips=("10.1.0.1",))], problems)
    assert shared["one"] == Prefixes((ip_network("10.1.0.0/24"),), ())
    assert problems == []


PREFIXES = st.builds(
    lambda address, length: IPv4Network((address << 24 >> 24 << 24, length), strict=False),
    st.integers(0, 255),
    st.integers(4, 12),
) | st.builds(
    lambda address, length: ip_network((address << 20, length), strict=False),
    st.integers(0, 4095),
    st.integers(6, 14),
)


@given(claims=st.lists(st.lists(PREFIXES, max_size=3), max_size=8))
def test_no_part_of_the_address_space_has_two_owners(claims: list[list[Network]]) -> None:
    nodes = [NodeFacts(f"n{number}", "", "", tuple(cidrs)) for number, cidrs in enumerate(claims)]
    shared = share_out(nodes, [])
    owned = [(name, p) for name, prefixes in shared.items() for p in prefixes.pods]
    for name, prefix in owned:
        others = [p for other, p in owned if other != name]
        assert not any(prefix.overlaps(p) for p in others if p.version == prefix.version)
    # As one would do it slowly.
    granted: list[tuple[str, Network]] = []
    for claimant in nodes:
        for prefix in claimant.pod_cidrs:
            if not any(prefix.overlaps(p) for _, p in granted if p.version == prefix.version):
                granted.append((claimant.name, prefix))
    assert {(n, p) for n, p in owned} == set(granted)


def test_a_node_is_at_the_gateway_of_its_pods() -> None:
    for prefix, address in (
        ("10.244.1.0/24", "10.244.1.1"),
        ("fd00:1::/64", "fd00:1::1"),
        ("10.0.0.4/31", "10.0.0.5"),
        ("fd00::7/128", "fd00::7"),
    ):
        assert str(node_address(ip_network(prefix))) == address
