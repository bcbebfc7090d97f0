"""The arguments of `wgpy set IFACE`."""

from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tools.wgconf import KEY, PEER
from wgpy.protocol.config import (
    ZERO_KEY,
    AllowedIPChange,
    Endpoint,
    InterfaceChange,
    PeerChange,
    Secret,
)
from wgpy.tools.errors import ToolError, UsageError
from wgpy.tools.keys import parse_key
from wgpy.tools.setargs import parse_set

P = parse_key(PEER)


def added(*networks: str) -> tuple[AllowedIPChange, ...]:
    return tuple(AllowedIPChange(ip_network(network)) for network in networks)


def test_every_argument_arrives(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    key = str(tmp_path / "key")
    words = ["listen-port", "5", "fwmark", "0x10", "private-key", key, "peer", PEER]
    words += ["preshared-key", key, "endpoint", "[::1]:7", "persistent-keepalive", "9"]
    words += ["allowed-ips", "10.0.0.0/8, fd00::1", "peer", KEY, "remove"]
    secret = Secret(parse_key(KEY))
    first = PeerChange(
        P,
        preshared_key=secret,
        endpoint=Endpoint("::1", 7),
        persistent_keepalive=9,
        replace_allowed_ips=True,
        allowed_ips=added("10.0.0.0/8", "fd00::1/128"),
    )
    second = PeerChange(parse_key(KEY), remove=True)
    assert parse_set(words) == InterfaceChange(secret, 5, 16, False, (first, second))


@pytest.mark.parametrize(
    ("words", "change"),
    [
        (["fwmark", "off"], InterfaceChange(fwmark=0)),
        (["private-key", "/dev/null"], InterfaceChange(private_key=ZERO_KEY)),
        (["listen-port", "5", "listen-port", "6"], InterfaceChange(listen_port=6)),
        (["peer", PEER], InterfaceChange(peers=(PeerChange(P),))),
        (
            ["peer", PEER, "persistent-keepalive", "off"],
            InterfaceChange(peers=(PeerChange(P, persistent_keepalive=0),)),
        ),
        (
            ["peer", PEER, "remove", "endpoint", "1.1.1.1:1"],
            InterfaceChange(peers=(PeerChange(P, remove=True),)),
        ),
        (
            ["peer", PEER, "preshared-key", "/dev/null"],
            InterfaceChange(peers=(PeerChange(P, preshared_key=ZERO_KEY),)),
        ),
        (
            ["peer", PEER, "allowed-ips", ""],
            InterfaceChange(peers=(PeerChange(P, replace_allowed_ips=True),)),
        ),
        (
            ["peer", PEER, "allowed-ips", "1.1.1.1", "allowed-ips", "2.2.2.2"],
            InterfaceChange(
                peers=(
                    PeerChange(
                        P,
                        replace_allowed_ips=True,
                        allowed_ips=added("1.1.1.1/32", "2.2.2.2/32"),
                    ),
                )
            ),
        ),
        (
            ["peer", PEER, "allowed-ips", "+1.1.1.1,-2.0.0.0/8"],
            InterfaceChange(
                peers=(
                    PeerChange(
                        P,
                        allowed_ips=(
                            *added("1.1.1.1/32"),
                            AllowedIPChange(ip_network("2.0.0.0/8"), remove=True),
                        ),
                    ),
                )
            ),
        ),
    ],
)
def test_arguments_become_a_change(words: list[str], change: InterfaceChange) -> None:
    assert parse_set(words) == change


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["listen-port"], "listen-port: expected a value after it"),
        (["peer"], "peer: expected a value after it"),
        (["peer", PEER, "listen-port", "1"], "'listen-port' belongs to the interface"),
        (["peer", PEER, "private-key", "x"], "'private-key' belongs to the interface"),
        (["endpoint", "1.1.1.1:1"], "'endpoint' belongs to a peer"),
        (["remove"], "'remove' belongs to a peer"),
        (["allowed-ips", "::/0"], "'allowed-ips' belongs to a peer"),
        (["PEER", PEER], "'PEER' is not known here"),
        ([KEY], "an argument is not known here"),
    ],
)
def test_an_argument_out_of_place_is_a_usage_error(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_set(words)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["listen-port", "65536"], "listen-port: expected a port from 0 to 65535"),
        (["fwmark", "x"], "fwmark: expected off or a mark"),
        (["peer", "x"], "peer: expected a key of 44 characters of base64, found 1 characters"),
        (["peer", PEER, "endpoint", "x"], "endpoint: expected HOST:PORT, found 'x'; add the port"),
        (["peer", PEER, "allowed-ips", "x"], "allowed-ips: expected ADDRESS or ADDRESS/LENGTH"),
        (["peer", PEER, "persistent-keepalive", "x"], "persistent-keepalive: expected off or"),
        (["private-key", "/nowhere"], "/nowhere: No such file or directory"),
    ],
)
def test_a_bad_value_is_named(words: list[str], message: str) -> None:
    with pytest.raises(ToolError) as caught:
        parse_set(words)
    assert str(caught.value).startswith(message)


WORDS = ["peer", PEER, "remove", "allowed-ips", "", "::/0", "fwmark", "off", "1", "listen-port"]


@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=8)))
def test_any_arguments_are_understood_or_refused(words: list[str]) -> None:
    # Names are not to be asked for here.
    words = [word for word in words if word not in ("endpoint", "private-key", "preshared-key")]
    try:
        parse_set(words)
    except ToolError as error:
        assert len(str(error).splitlines()) == 1
