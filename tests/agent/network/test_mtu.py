"""Sizes inside of the tunnel."""

import pytest

from agent.network.mtu import inner_mtu, lane_mtu


@pytest.mark.parametrize(
    ("outer", "version", "inner"),
    [(1500, 4, 1440), (1500, 6, 1420), (9000, 4, 8940), (1400, 6, 1320), (1280, 6, 1280)],
)
def test_the_tunnel_takes_60_bytes_over_ipv4_and_80_over_ipv6(
    outer: int, version: int, inner: int
) -> None:
    assert inner_mtu(outer, version) == inner


def test_ipv6_keeps_its_smallest_mtu_on_any_path() -> None:
    assert inner_mtu(576, 4) == 1280


def test_a_lane_is_as_large_as_its_largest_path() -> None:
    assert lane_mtu([1420, 8940, 1320]) == 8940
    assert lane_mtu([]) == 1420
