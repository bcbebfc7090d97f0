"""What every data plane must do, on each plane that this machine can run (needs root).

Where only one runs, the other's tests say so when they are skipped: the kernel's plane is
tested on machines with the module, or in a guest with such a kernel:

    pytest -m system tests/dataplane/test_conformance.py
"""

import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from errno import EEXIST, EINVAL, ENODEV, EOPNOTSUPP
from ipaddress import ip_network
from typing import cast

import pytest

from tests.uapi.fake import many_peers
from wgpy.dataplane import (
    DataPlaneError,
    Plane,
    create_interface,
    delete_interface,
    get_interface,
    list_interfaces,
    probe,
    set_interface,
)
from wgpy.dataplane.diff import diff
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
from wgpy.tools.keys import public_key
from wgpy.uapi.paths import socket_path

pytestmark = pytest.mark.system

NAME = f"td{os.getpid()}"
OTHER = f"te{os.getpid()}"
# Clamped already: the kernel gives keys back so.
PRIVATE_KEY = Secret(b"\x40" * 32)
# Keys of nobody, as random as public keys are.
A, B, C = (bytes([number]) * 32 for number in (0x11, 0x22, 0x33))
N4, N6, DEFAULT = ip_network("10.0.0.0/24"), ip_network("fd00::/64"), ip_network("0.0.0.0/0")


@pytest.fixture(params=["kernel", "userspace"])
def plane(request: pytest.FixtureRequest) -> Plane:
    chosen = cast(Plane, request.param)
    available = probe()
    if reason := available.kernel_reason if chosen == "kernel" else available.userspace_reason:
        pytest.skip(f"no {chosen} plane: {reason}")
    return chosen


@pytest.fixture
def interface(plane: Plane) -> Iterator[str]:
    assert create_interface(NAME, plane) == plane
    yield NAME
    if NAME in list_interfaces():
        delete_interface(NAME)
    assert not exists(NAME)


def exists(name: str) -> bool:
    return name in {found for _, found in socket.if_nameindex()}


def peer_of(name: str, key: bytes) -> PeerStats:
    (found,) = (peer for peer in get_interface(name).peers if peer.public_key == key)
    return found


def add(*networks: str) -> tuple[AllowedIPChange, ...]:
    return tuple(AllowedIPChange(ip_network(network)) for network in networks)


def take(*networks: str) -> tuple[AllowedIPChange, ...]:
    return tuple(AllowedIPChange(ip_network(network), remove=True) for network in networks)


def set_peers(name: str, *peers: PeerChange, replace_peers: bool = False) -> None:
    set_interface(name, InterfaceChange(replace_peers=replace_peers, peers=peers))


def owners(name: str) -> dict[str, bytes]:
    return {str(n): peer.public_key for peer in get_interface(name).peers for n in peer.allowed_ips}


def test_a_new_interface_is_listed_and_empty(interface: str) -> None:
    assert interface in list_interfaces()
    assert get_interface(interface) == InterfaceStats()


def test_a_deleted_interface_leaves_nothing_behind(interface: str) -> None:
    delete_interface(interface)
    assert interface not in list_interfaces()
    assert not exists(interface)
    assert not socket_path(interface).exists()


def test_a_taken_name_is_eexist_and_the_interface_untouched(interface: str, plane: Plane) -> None:
    set_interface(interface, InterfaceChange(fwmark=7))
    with pytest.raises(DataPlaneError) as caught:
        create_interface(interface, plane)
    assert caught.value.errno == EEXIST
    with pytest.raises(DataPlaneError) as caught:
        create_interface("lo", plane)
    assert caught.value.errno == EEXIST
    assert get_interface(interface).fwmark == 7


@pytest.mark.parametrize("name", ["nosuch0", "lo"])
def test_what_is_no_wireguard_interface_is_enodev(name: str) -> None:
    for call in (
        lambda: get_interface(name),
        lambda: set_interface(name, InterfaceChange(fwmark=1)),
        lambda: delete_interface(name),
    ):
        with pytest.raises(DataPlaneError) as caught:
            call()
        assert caught.value.errno == ENODEV
        assert name in str(caught.value)


@pytest.mark.parametrize("name", ["", "../x", "a b", "sixteen-letters-", "."])
def test_what_cannot_be_a_name_is_einval(name: str) -> None:
    for call in (lambda: get_interface(name), lambda: create_interface(name)):
        with pytest.raises(DataPlaneError) as caught:
            call()
        assert caught.value.errno == EINVAL


def test_a_plane_that_is_not_there_is_eopnotsupp_with_the_reason() -> None:
    available = probe()
    if available.kernel:
        pytest.skip("this machine has all planes")
    with pytest.raises(DataPlaneError) as caught:
        create_interface(OTHER, "kernel")
    assert caught.value.errno == EOPNOTSUPP
    assert available.kernel_reason in str(caught.value)
    assert not exists(OTHER)


def test_probing_makes_nothing() -> None:
    before = socket.if_nameindex()
    probe()
    assert socket.if_nameindex() == before


def test_interface_values_are_set_and_taken_away(interface: str) -> None:
    change = InterfaceChange(PRIVATE_KEY, listen_port=45321, fwmark=0xFFFFFFFF)
    set_interface(interface, change)
    found = get_interface(interface)
    assert (found.private_key, found.listen_port, found.fwmark) == (PRIVATE_KEY, 45321, 2**32 - 1)
    assert found.public_key == public_key(PRIVATE_KEY)
    set_interface(interface, InterfaceChange(fwmark=0))
    assert get_interface(interface) == replace(found, fwmark=0)
    set_interface(interface, InterfaceChange(ZERO_KEY))
    assert get_interface(interface).private_key is None


def test_listen_port_zero_chooses_a_port_when_the_link_is_up(interface: str) -> None:
    subprocess.run(["ip", "link", "set", interface, "up"], check=True)
    chosen = get_interface(interface).listen_port
    assert chosen
    set_interface(interface, InterfaceChange(listen_port=45322))
    assert get_interface(interface).listen_port == 45322
    set_interface(interface, InterfaceChange(listen_port=0))
    assert get_interface(interface).listen_port not in (0, 45322)


def test_peer_values_are_set_and_taken_away(interface: str) -> None:
    peer = PeerChange(
        A,
        preshared_key=Secret(C),
        endpoint=Endpoint("192.0.2.1", 5),
        persistent_keepalive=65535,
        allowed_ips=add("10.0.0.0/24", "fd00::/64"),
    )
    set_peers(interface, peer)
    found = PeerStats(A, Secret(C), Endpoint("192.0.2.1", 5), 0, 0, 0, 65535)
    stats = peer_of(interface, A)
    assert set(stats.allowed_ips) == {N4, N6}
    assert replace(stats, allowed_ips=(), drops={}) == found
    set_peers(interface, PeerChange(A, preshared_key=ZERO_KEY, persistent_keepalive=0))
    stats = peer_of(interface, A)
    assert (stats.preshared_key, stats.persistent_keepalive) == (ZERO_KEY, 0)
    assert stats.endpoint == found.endpoint


@pytest.mark.parametrize(
    "endpoint", [Endpoint("2001:db8::1", 65535), Endpoint("fe80::1", 5, 1), Endpoint("10.0.0.1", 1)]
)
def test_endpoints_come_back_as_they_were_set(interface: str, endpoint: Endpoint) -> None:
    set_peers(interface, PeerChange(A, endpoint=endpoint))
    assert peer_of(interface, A).endpoint == endpoint


def test_update_only_never_makes_a_peer_and_remove_of_none_is_no_error(interface: str) -> None:
    update = PeerChange(A, update_only=True, persistent_keepalive=5, allowed_ips=add("::/0"))
    set_peers(interface, update, PeerChange(B, remove=True))
    assert get_interface(interface).peers == ()
    set_peers(interface, PeerChange(A))
    set_peers(interface, update)
    assert peer_of(interface, A).persistent_keepalive == 5
    set_peers(interface, PeerChange(A, remove=True))
    assert get_interface(interface).peers == ()


def test_replace_peers_leaves_only_those_of_the_change(interface: str) -> None:
    set_peers(interface, PeerChange(A), PeerChange(B))
    set_peers(interface, PeerChange(C), replace_peers=True)
    assert [peer.public_key for peer in get_interface(interface).peers] == [C]


def test_a_peer_with_our_own_key_does_not_come_to_be(interface: str) -> None:
    set_interface(interface, InterfaceChange(PRIVATE_KEY))
    set_peers(interface, PeerChange(public_key(PRIVATE_KEY)), PeerChange(A))
    assert [peer.public_key for peer in get_interface(interface).peers] == [A]


def test_a_prefix_has_one_owner_and_bits_beyond_its_length_do_not_count(interface: str) -> None:
    set_peers(interface, PeerChange(A, allowed_ips=add("10.0.0.0/24", "0.0.0.0/0")))
    set_peers(interface, PeerChange(B, allowed_ips=add("10.0.0.0/24")))
    assert owners(interface) == {"10.0.0.0/24": B, "0.0.0.0/0": A}


def test_allowed_ips_are_added_replaced_and_taken_away_one_by_one(interface: str) -> None:
    set_peers(interface, PeerChange(A, allowed_ips=add("10.0.0.0/24", "fd00::/64")))
    set_peers(interface, PeerChange(A, allowed_ips=add("0.0.0.0/0")))
    assert set(peer_of(interface, A).allowed_ips) == {N4, N6, DEFAULT}
    set_peers(interface, PeerChange(A, allowed_ips=take("10.0.0.0/24")))
    assert set(peer_of(interface, A).allowed_ips) == {N6, DEFAULT}
    set_peers(interface, PeerChange(A, replace_allowed_ips=True, allowed_ips=add("10.0.0.0/24")))
    assert peer_of(interface, A).allowed_ips == (N4,)
    set_peers(interface, PeerChange(A, replace_allowed_ips=True))
    assert peer_of(interface, A).allowed_ips == ()


def test_a_prefix_of_another_peer_is_not_taken_away(interface: str) -> None:
    set_peers(interface, PeerChange(A, allowed_ips=add("10.0.0.0/24")), PeerChange(B))
    set_peers(interface, PeerChange(B, allowed_ips=take("10.0.0.0/24", "fd00::/64")))
    assert owners(interface) == {"10.0.0.0/24": A}
    # Nor does what the removal needs stay behind.
    assert {peer.public_key for peer in get_interface(interface).peers} == {A, B}


def test_peers_keep_their_order(interface: str) -> None:
    keys = [bytes([number]) * 32 for number in (9, 3, 7, 5)]
    set_peers(interface, *map(PeerChange, keys))
    assert [peer.public_key for peer in get_interface(interface).peers] == keys


def test_a_whole_configuration_is_reached_by_its_difference(interface: str) -> None:
    set_peers(
        interface,
        PeerChange(A, allowed_ips=add("10.0.0.0/24", "fd00::/64"), persistent_keepalive=5),
        PeerChange(B),
    )
    desired = InterfaceChange(
        PRIVATE_KEY,
        fwmark=3,
        peers=(
            PeerChange(A, allowed_ips=add("fd00::/64")),
            PeerChange(C, allowed_ips=add("10.0.0.0/24"), preshared_key=Secret(B)),
        ),
    )
    set_interface(interface, diff(get_interface(interface), desired))
    assert owners(interface) == {"fd00::/64": A, "10.0.0.0/24": C}
    assert {peer.public_key for peer in get_interface(interface).peers} == {A, C}
    assert diff(get_interface(interface), desired) == InterfaceChange()


def test_more_peers_than_one_message_holds_are_set_and_got(interface: str) -> None:
    change = many_peers(400)
    set_interface(interface, change)
    found = get_interface(interface)
    assert [peer.public_key for peer in found.peers] == [p.public_key for p in change.peers]
    for stats, peer in zip(found.peers, change.peers, strict=True):
        assert set(stats.allowed_ips) == {allowed.network for allowed in peer.allowed_ips}
        assert stats.endpoint == peer.endpoint


def test_more_prefixes_of_a_peer_than_one_message_holds_are_set_and_got(interface: str) -> None:
    networks = {ip_network((0x0A000000 + number, 32)) for number in range(5000)}
    many = tuple(map(AllowedIPChange, networks))
    set_peers(interface, PeerChange(A, replace_allowed_ips=True, allowed_ips=many), PeerChange(B))
    assert set(peer_of(interface, A).allowed_ips) == networks
    assert len(get_interface(interface).peers) == 2


def test_wg_sees_the_same_interface(interface: str) -> None:
    set_interface(
        interface,
        InterfaceChange(
            PRIVATE_KEY,
            fwmark=0x10,
            peers=(PeerChange(A, endpoint=Endpoint("fe80::1", 5, 1), allowed_ips=add("::/0")),),
        ),
    )
    shown = subprocess.run(
        ["wg", "show", interface, "dump"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert shown[0].split("\t")[3] == "0x10"
    assert shown[1].split("\t")[2:4] == ["[fe80::1%lo]:5", "::/0"]
