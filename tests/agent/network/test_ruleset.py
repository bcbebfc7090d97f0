"""The text of the packet filter; what it does to packets is in tests/system."""

from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st

from agent.network.ruleset import COUNTERS, FirewallDesired, ruleset


def test_every_counter_is_used_and_every_drop_is_counted() -> None:
    lines = ruleset(FirewallDesired()).splitlines()
    drops = [line for line in lines if line.endswith("drop")]
    assert {line.split("counter name ")[1].split()[0] for line in drops} == set(COUNTERS)


def test_each_family_has_its_own_sets_and_an_empty_one_has_no_elements() -> None:
    overlay = (ip_network("10.244.0.0/16"), ip_network("fd00::/56"))
    text = ruleset(FirewallDesired(lanes=("wgpy1", "wgpy0"), overlay=overlay))
    for line in (
        'set lanes { type ifname; elements = { "wgpy0", "wgpy1" }; }',
        "set overlay4 { type ipv4_addr; flags interval; elements = { 10.244.0.0/16 }; }",
        "set overlay6 { type ipv6_addr; flags interval; elements = { fd00::/56 }; }",
        "set local4 { type ipv4_addr; flags interval; }",
    ):
        assert line in text.splitlines()


def test_prefixes_that_lie_in_one_another_become_one() -> None:
    nodes = tuple(map(ip_network, ("10.0.0.0/8", "10.1.0.0/16", "10.0.0.1/32")))
    assert "elements = { 10.0.0.0/8 };" in ruleset(FirewallDesired(nodes=nodes))


_PREFIXES = st.lists(st.integers(0, 15).map(lambda n: ip_network(f"10.244.{n}.0/24")))


@given(_PREFIXES, st.randoms(use_true_random=False))
def test_the_order_of_prefixes_makes_no_difference(prefixes, random) -> None:  # type: ignore
    shuffled = random.sample(prefixes, len(prefixes))
    one = ruleset(FirewallDesired(local=tuple(prefixes)))
    assert one == ruleset(FirewallDesired(local=tuple(shuffled)))
