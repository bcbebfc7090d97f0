"""On this host's loopback; changes of addresses and routes are in tests/system/test_bind.py."""

import socket

import pytest

from wgpy.device.routes import RouteMonitor
from wgpy.protocol.config import Endpoint
from wgpy.protocol.path import Path, Source

LO = socket.if_nametoindex("lo")


@pytest.mark.parametrize(
    ("host", "source", "valid"),
    [
        ("127.0.0.1", None, True),
        ("127.0.0.1", Source("127.0.0.1", LO), True),
        ("127.0.0.1", Source("127.0.0.5", LO), True),
        ("127.0.0.1", Source("127.0.0.1", LO + 1), False),
        ("127.0.0.1", Source("192.0.2.77", LO), False),
        ("::1", Source("::1", LO), True),
        ("::1", Source("::1", LO + 1), False),
        ("::1", Source("2001:db8::77", LO), False),
        ("::1", Source("fe80::77", LO), False),
    ],
)
def test_a_source_is_valid_while_it_is_local_and_its_route_leaves_by_its_interface(
    host: str, source: Source | None, valid: bool
) -> None:
    monitor = RouteMonitor()
    path = Path(Endpoint(host, 51820), source)
    assert monitor.still_valid(path, 0) is valid
    assert monitor.still_valid(path, 0x51) is valid
    monitor.close()


def test_the_monitor_can_be_polled_and_is_silent_without_changes() -> None:
    monitor = RouteMonitor()
    assert monitor.fileno() > 0
    monitor.drain()
    assert monitor.drain() is False
    monitor.close()
