"""The text of the bridge's table; what it does to frames is in tests/system."""

from ipaddress import ip_address

from agent.network.attachments import Attachment
from agent.network.neighbours import NeighboursDesired, neighbours_ruleset

_ONE = Attachment("veth-1.a", "02:00:00:00:00:01", (ip_address("10.244.3.5"),))
_TWO = Attachment("veth_1", "02:00:00:00:00:02", (ip_address("10.244.3.6"), ip_address("fd00::6")))


def _text(*attachments: Attachment) -> str:
    return neighbours_ruleset(NeighboursDesired(attachments))


def test_each_pod_has_a_chain_of_its_own() -> None:
    text = _text(_ONE, _TWO)
    chains = [line for line in text.splitlines() if line.startswith("chain pod_")]
    assert len(set(chains)) == 2
    for veth in ("veth-1.a", "veth_1"):
        assert f'"{veth}" : goto pod_' in text
    assert "elements = { 10.244.3.5, 10.244.3.6 };" in text
    assert "elements = { fd00::6 };" in text


def test_a_pod_without_ipv6_address_may_advertise_none() -> None:
    lines = _text(_ONE).splitlines()
    assert "icmpv6 type nd-neighbor-advert @th,64,10 != 0x3fa goto spoofed" in lines


def test_without_pods_there_is_nothing_to_go_to() -> None:
    assert "map known { type ifname : verdict; }" in _text()
