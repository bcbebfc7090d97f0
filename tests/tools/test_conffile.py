"""Configuration files: what is understood, and how the rest is refused."""

import socket
from ipaddress import ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.tools.wgconf import (
    ACCEPTED,
    INTERFACE,
    KEY,
    ONE_PEER,
    PEER,
    REFUSED,
    REFUSED_BY_US_ONLY,
)
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
from wgpy.tools.conffile import parse_config, read_lines
from wgpy.tools.errors import ToolError
from wgpy.tools.keys import parse_key
from wgpy.tools.showconf import config_text


def parse(text: str, append: bool = False) -> InterfaceChange:
    return parse_config(list(enumerate(text.split("\n"), start=1)), "x.conf", append=append)


def test_a_whole_file_replaces_everything_that_it_does_not_name() -> None:
    assert parse("") == InterfaceChange(
        private_key=ZERO_KEY, listen_port=0, fwmark=0, replace_peers=True
    )


def test_a_file_to_append_leaves_what_it_does_not_name() -> None:
    assert parse("", append=True) == InterfaceChange()


def test_every_setting_arrives() -> None:
    change = parse(
        f"{INTERFACE}ListenPort=51820\nFwMark=0xca6c\n"
        f"[Peer]\nPublicKey={PEER}\nPresharedKey={KEY}\nEndpoint=[2001:db8::1]:5\n"
        "AllowedIPs=10.0.0.0/24, fd00::/64\nAllowedIPs=10.9.9.9\nPersistentKeepalive=25\n"
    )
    peer = PeerChange(
        parse_key(PEER),
        preshared_key=Secret(parse_key(KEY)),
        endpoint=Endpoint("2001:db8::1", 5),
        persistent_keepalive=25,
        replace_allowed_ips=True,
        allowed_ips=tuple(
            AllowedIPChange(ip_network(n)) for n in ("10.0.0.0/24", "fd00::/64", "10.9.9.9/32")
        ),
    )
    assert change == InterfaceChange(Secret(parse_key(KEY)), 51820, 0xCA6C, True, (peer,))


@pytest.mark.parametrize("text", ACCEPTED.values(), ids=ACCEPTED)
def test_what_wg_accepts_is_accepted(text: str) -> None:
    assert parse(text).replace_peers


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_what_wg_refuses_is_refused_with_file_and_line(text: str, message: str) -> None:
    with pytest.raises(ToolError) as caught:
        parse(text)
    assert str(caught.value).startswith(f"x.conf:{message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", REFUSED_BY_US_ONLY)
def test_what_wg_would_take_for_something_else_is_refused(text: str) -> None:
    with pytest.raises(ToolError):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        f"{INTERFACE}{KEY}\n",
        f"{INTERFACE}{KEY}=x\n",
        f"[Interface]\nPrivateKey={KEY[1:]}\n",
        f"PrivateKey={KEY}\n",
        f"[{KEY}]\n",
    ],
)
def test_a_message_never_shows_a_key(text: str) -> None:
    with pytest.raises(ToolError) as caught:
        parse(text)
    assert KEY[1:-1] not in str(caught.value)


def test_signs_make_allowed_ips_incremental() -> None:
    (peer,) = parse(f"{ONE_PEER}AllowedIPs=+10.0.0.0/8,-fd00::/64\n").peers
    assert not peer.replace_allowed_ips
    assert peer.allowed_ips == (
        AllowedIPChange(ip_network("10.0.0.0/8")),
        AllowedIPChange(ip_network("fd00::/64"), remove=True),
    )


def test_bits_beyond_the_prefix_are_cleared_with_a_warning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (peer,) = parse(f"{ONE_PEER}AllowedIPs=10.1.2.3/8\n").peers
    assert peer.allowed_ips == (AllowedIPChange(ip_network("10.0.0.0/8")),)
    assert capsys.readouterr().err == (
        "wgpy: warning: x.conf:5: AllowedIP has nonzero host part: 10.1.2.3/8\n"
    )


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ToolError, match="^/nowhere/x.conf: No such file or directory$"):
        read_lines("/nowhere/x.conf")


WORDS = st.sampled_from(
    [
        "[Interface]",
        "[Peer]",
        "PrivateKey",
        "PublicKey",
        "AllowedIPs",
        "Endpoint",
        "=",
        KEY,
        PEER,
        "\n",
        "\n\n",
        "#",
        ",",
        " ",
        "1.2.3.4:5",
        "10.0.0.0/8",
        "FwMark",
        "0x1",
        "off",
        "ListenPort",
    ]
)


@given(st.one_of(st.lists(WORDS, max_size=40).map("".join), st.text(max_size=80)))
@example("[Peer]\nEndpoint=\0:1\n")
@example("[Peer]\nAllowedIPs=1.1.1.1/²\n")
def test_any_text_is_understood_or_refused_in_one_line(text: str) -> None:
    def resolve(endpoint: str) -> Endpoint:
        return Endpoint("192.0.2.1", 1)

    try:
        lines = list(enumerate(text.split("\n"), start=1))
        change = parse_config(lines, "x.conf", resolve=resolve)
    except ToolError as error:
        assert str(error).startswith("x.conf:") and len(str(error).splitlines()) == 1
    else:
        assert all(len(peer.public_key) == 32 for peer in change.peers)


KEYS = st.binary(min_size=32, max_size=32)
NETWORKS = st.one_of(
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)),
    st.tuples(st.integers(2**32, 2**128 - 1), st.integers(0, 128)),
).map(lambda pair: ip_network(pair, strict=False))
HOSTS = st.one_of(
    st.binary(min_size=4, max_size=4).map(lambda raw: socket.inet_ntop(socket.AF_INET, raw)),
    st.binary(min_size=16, max_size=16).map(lambda raw: socket.inet_ntop(socket.AF_INET6, raw)),
)
ENDPOINTS = st.builds(Endpoint, HOSTS, st.integers(0, 65535), scope_id=st.just(0))
PEERS = st.builds(
    PeerStats,
    KEYS,
    preshared_key=KEYS.map(Secret),
    endpoint=st.none() | ENDPOINTS,
    persistent_keepalive=st.integers(0, 65535),
    allowed_ips=st.lists(NETWORKS, max_size=4).map(tuple),
)
STATS = st.builds(
    InterfaceStats,
    private_key=st.none() | KEYS.map(Secret),
    listen_port=st.integers(0, 65535),
    fwmark=st.integers(0, 2**32 - 1),
    peers=st.lists(PEERS, max_size=3).map(tuple),
)


@given(STATS)
def test_what_showconf_writes_setconf_reads(stats: InterfaceStats) -> None:
    change = parse(config_text(stats))
    assert change.private_key == (stats.private_key or ZERO_KEY)
    assert (change.listen_port, change.fwmark) == (stats.listen_port, stats.fwmark)
    assert len(change.peers) == len(stats.peers)
    for found, peer in zip(change.peers, stats.peers, strict=True):
        assert found.public_key == peer.public_key
        assert (found.preshared_key or ZERO_KEY) == peer.preshared_key
        assert found.endpoint == peer.endpoint
        assert (found.persistent_keepalive or 0) == peer.persistent_keepalive
        assert tuple(allowed.network for allowed in found.allowed_ips) == peer.allowed_ips
