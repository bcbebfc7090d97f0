"""The pure parts of the lanes' data plane: which one, what is left alone, what is said of it."""

from dataclasses import replace
from ipaddress import ip_network

import pytest

from agent.backend import choose, describe, difference, keep_roamed
from agent.network.base import NetworkError
from wgpy.dataplane import Availability
from wgpy.protocol.config import (
    ZERO_KEY,
    AllowedIPChange,
    Endpoint,
    InterfaceChange,
    InterfaceStats,
    PeerChange,
    PeerStats,
    Secret,
)

_SECOND = 10**9
_NOW = 1_700_000_000 * _SECOND
_KEY = b"\x11" * 32
_OFFERED = Endpoint("192.0.2.1", 51871)
_ROAMED = Endpoint("198.51.100.9", 40000)
_NEW = Endpoint("192.0.2.7", 51871)


def _current(age: float | None, endpoint: Endpoint | None = _ROAMED) -> InterfaceStats:
    handshake = 0 if age is None else _NOW - int(age * _SECOND)
    return InterfaceStats(peers=(PeerStats(_KEY, endpoint=endpoint, last_handshake_ns=handshake),))


def _endpoint_left(
    current: InterfaceStats, told: dict[bytes, Endpoint], wanted: Endpoint = _OFFERED
) -> Endpoint | None:
    desired = InterfaceChange(peers=(PeerChange(_KEY, endpoint=wanted),))
    (peer,) = keep_roamed(current, desired, told, _NOW).peers
    return peer.endpoint


def test_a_roamed_endpoint_with_a_live_session_is_left_alone() -> None:
    assert _endpoint_left(_current(age=179), {_KEY: _OFFERED}) is None


def test_after_a_restart_a_live_session_is_left_alone_too() -> None:
    assert _endpoint_left(_current(age=10), {}) is None


def test_a_roamed_endpoint_whose_session_is_dead_is_set_again() -> None:
    assert _endpoint_left(_current(age=181), {_KEY: _OFFERED}) == _OFFERED
    assert _endpoint_left(_current(age=None), {_KEY: _OFFERED}) == _OFFERED


def test_an_endpoint_that_is_news_is_set_whatever_lives() -> None:
    assert _endpoint_left(_current(age=10), {_KEY: _OFFERED}, _NEW) == _NEW


def test_a_peer_without_endpoint_gets_one() -> None:
    assert _endpoint_left(_current(age=10, endpoint=None), {}) == _OFFERED
    assert _endpoint_left(InterfaceStats(), {}) == _OFFERED


def test_auto_prefers_the_kernel_and_falls_back_to_userspace() -> None:
    assert choose("auto", Availability()) == "kernel"
    assert choose("auto", Availability(kernel_reason="no module")) == "userspace"


def test_without_a_data_plane_the_reasons_are_told() -> None:
    with pytest.raises(NetworkError, match="no module; no tun"):
        choose("auto", Availability("no module", "no tun"))


def test_a_chosen_plane_that_is_missing_is_an_error_not_a_fallback() -> None:
    assert choose("userspace", Availability()) == "userspace"
    with pytest.raises(NetworkError, match="no module; choose --dataplane auto"):
        choose("kernel", Availability(kernel_reason="no module"))


def test_what_is_said_of_a_change_names_peers_and_no_secret() -> None:
    secret = Secret(bytes(range(32)))
    change = InterfaceChange(
        private_key=secret,
        listen_port=51871,
        peers=(
            PeerChange(
                _KEY,
                preshared_key=secret,
                endpoint=_NEW,
                allowed_ips=(AllowedIPChange(ip_network("10.244.2.0/24")),),
            ),
            PeerChange(b"\x22" * 32, preshared_key=ZERO_KEY),
            PeerChange(b"\x33" * 32, remove=True),
        ),
    )
    assert list(describe(_current(age=1), change)) == [
        "the private key is another",
        "the port is 51871, it was 0",
        "peer 11111111 has changed: preshared key, endpoint 192.0.2.7:51871, +10.244.2.0/24",
        "peer 22222222 is new",
        "peer 33333333 is removed",
    ]


def test_with_another_private_key_all_peers_begin_anew() -> None:
    met = PeerStats(_KEY, Secret(b"p" * 32), last_handshake_ns=_NOW)
    current = InterfaceStats(Secret(b"a" * 32), b"A" * 32, 1, 0, (met,))
    wanted = PeerChange(_KEY, preshared_key=Secret(b"p" * 32), endpoint=Endpoint("192.0.2.1", 1))
    same = InterfaceChange(private_key=Secret(b"a" * 32), peers=(wanted,))
    kept = difference(current, same, {}, _NOW)
    assert (kept.replace_peers, kept.peers) == (
        False,
        (PeerChange(_KEY, endpoint=wanted.endpoint),),
    )
    other = replace(same, private_key=Secret(b"b" * 32))
    anew = difference(current, other, {}, _NOW)
    assert (anew.replace_peers, anew.private_key) == (True, other.private_key)
    assert anew.peers == (wanted,)
