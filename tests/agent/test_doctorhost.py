"""What the doctor asks of this host, where that needs neither root nor an agent."""

from __future__ import annotations

import socket

import pytest

from agent.doctorhost import DoctorHost
from agent.options import parse

HOST = DoctorHost(parse([], {"NODE_NAME": "me"}))


@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_a_port_is_taken_by_whoever_has_it_at_any_address(
    family: socket.AddressFamily, address: str
) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as taken:
        taken.bind((address, 0))
        port = taken.getsockname()[1]
        assert not HOST.is_free(port)
        assert HOST.holder(port) is None
    assert HOST.is_free(port)
