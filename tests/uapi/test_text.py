"""UAPI text: https://www.wireguard.com/xplatform/ and wireguard-go's errno values."""

import re
from collections.abc import Callable
from errno import EADDRINUSE, EINVAL, EPROTO
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.uapi.fake import changes, interface_stats
from wgpy.protocol.config import (
    ZERO_KEY,
    AllowedIPChange,
    Endpoint,
    InterfaceChange,
    InterfaceStats,
    PeerChange,
    PeerStats,
)
from wgpy.uapi.text import UapiError, format_get, format_set, parse_get, parse_set_untrusted

KEY = "ab" * 32
RAW_KEY = bytes.fromhex(KEY)
KNOWN_KEYS = [
    "private_key", "listen_port", "fwmark", "replace_peers", "public_key", "remove", "update_only",
    "preshared_key", "endpoint", "persistent_keepalive_interval", "replace_allowed_ips",
    "allowed_ip", "protocol_version", "errno", "set", "get", "",
]  # fmt: skip


def scope(name: str) -> int:
    if name == "eth0":
        return 7
    raise OSError("no such interface")


def parse(*lines: str) -> InterfaceChange:
    return parse_set_untrusted("\n".join(["set=1", *lines, "", ""]), scope)


def parse_peer(*lines: str) -> PeerChange:
    (peer,) = parse(f"public_key={KEY}", *lines).peers
    return peer


def refuse(*lines: str) -> UapiError:
    with pytest.raises(UapiError) as caught:
        parse(*lines)
    return caught.value


@given(changes)
def test_what_is_written_as_a_request_is_read_as_the_same_change(change: InterfaceChange) -> None:
    assert parse_set_untrusted(format_set(change), scope) == change


@given(interface_stats)
def test_what_is_written_as_an_answer_is_read_as_the_same_state(stats: InterfaceStats) -> None:
    assert parse_get(format_get(stats), scope) == stats


@given(
    st.lists(
        st.one_of(
            st.text(max_size=40),
            st.builds(
                "{}={}".format,
                st.sampled_from(KNOWN_KEYS),
                st.sampled_from([KEY, "true", "1", "0", "-1", "1.2.3.4:5", "::/0", "[::%eth1]:5"])
                | st.text(max_size=40),
            ),
        ),
        max_size=8,
    )
)
def test_no_text_makes_the_parsers_raise_anything_but_their_error(lines: list[str]) -> None:
    readers: list[Callable[[], object]] = [
        lambda: parse_set_untrusted("\n".join(lines), scope),
        lambda: parse(*lines),
        lambda: parse(f"public_key={KEY}", *lines),
        lambda: parse_get("\n".join(lines), scope),
        lambda: parse_get("\n".join([f"public_key={KEY}", *lines, "errno=0", ""]), scope),
    ]
    for read in readers:
        try:
            read()
        except UapiError as error:
            assert error.errno > 0


@given(changes, st.integers(0, 500), st.characters())
def test_a_damaged_request_is_refused_or_is_another_request(
    change: InterfaceChange, position: int, character: str
) -> None:
    text = format_set(change)
    damaged = text[:position] + character + text[position + 1 :]
    try:
        found = parse_set_untrusted(damaged, scope)
    except UapiError:
        return
    assert parse_set_untrusted(format_set(found), scope) == found


def test_all_interface_keys_are_taken() -> None:
    assert parse(
        f"private_key={KEY}", "listen_port=0", "fwmark=4294967295", "replace_peers=true"
    ) == InterfaceChange(
        private_key=parse(f"private_key={KEY}").private_key,
        listen_port=0,
        fwmark=2**32 - 1,
        replace_peers=True,
    )
    assert parse(f"private_key={KEY}").private_key == RAW_KEY


def test_all_peer_keys_are_taken() -> None:
    peer = parse_peer(
        "update_only=true",
        f"preshared_key={KEY.upper()}",
        "endpoint=[2001:db8::1]:65535",
        "persistent_keepalive_interval=65535",
        "replace_allowed_ips=true",
        "allowed_ip=10.1.2.3/8",
        "allowed_ip=-fd00::1/64",
        "protocol_version=1",
    )
    assert peer == PeerChange(
        RAW_KEY,
        update_only=True,
        preshared_key=peer.preshared_key,
        endpoint=Endpoint("2001:db8::1", 65535),
        persistent_keepalive=65535,
        replace_allowed_ips=True,
        allowed_ips=(
            AllowedIPChange(ip_network("10.0.0.0/8")),
            AllowedIPChange(ip_network("fd00::/64"), remove=True),
        ),
    )
    assert peer.preshared_key == RAW_KEY


def test_the_last_of_doubled_keys_counts() -> None:
    assert parse("listen_port=1", "listen_port=2").listen_port == 2
    assert parse_peer("endpoint=1.2.3.4:5", "endpoint=1.2.3.4:6").endpoint == ("1.2.3.4", 6, 0)


def test_peers_keep_their_order_and_may_come_twice() -> None:
    other = "cd" * 32
    peers = parse(f"public_key={KEY}", f"public_key={other}", f"public_key={KEY}").peers
    assert [peer.public_key.hex() for peer in peers] == [KEY, other, KEY]


def test_keys_after_a_public_key_belong_to_that_peer_alone() -> None:
    first, second = parse(
        f"public_key={KEY}", "allowed_ip=::/0", "update_only=true", f"public_key={'cd' * 32}"
    ).peers
    assert first.update_only and first.allowed_ips
    assert second == PeerChange(bytes.fromhex("cd" * 32))


def test_a_removed_peer_has_no_other_changes() -> None:
    lines = ["allowed_ip=::/0", "remove=true", "endpoint=1.2.3.4:5", "allowed_ip=1.2.3.4/32"]
    assert parse_peer(*lines) == PeerChange(RAW_KEY, remove=True)


def test_replace_allowed_ips_replaces_those_given_before_it_too() -> None:
    peer = parse_peer("allowed_ip=::/0", "replace_allowed_ips=true", "allowed_ip=1.2.3.4/32")
    assert peer.replace_allowed_ips
    assert peer.allowed_ips == (AllowedIPChange(ip_network("1.2.3.4/32")),)


def test_zeros_take_a_key_away() -> None:
    assert parse(f"private_key={'0' * 64}").private_key == ZERO_KEY
    assert parse_peer(f"preshared_key={'0' * 64}").preshared_key == ZERO_KEY


def test_a_scope_is_an_index_or_a_name_and_stays_with_link_local_addresses() -> None:
    assert parse_peer("endpoint=[fe80::1%eth0]:5").endpoint == ("fe80::1", 5, 7)
    assert parse_peer("endpoint=[fe80::1%3]:5").endpoint == ("fe80::1", 5, 3)
    assert parse_peer("endpoint=[2001:db8::1%3]:5").endpoint == ("2001:db8::1", 5, 0)


@pytest.mark.parametrize(
    "line",
    [
        "private_key=", f"private_key={KEY[1:]}", f"private_key={KEY}0", f"private_key={'g' * 64}",
        "listen_port=", "listen_port=-1", "listen_port=65536", "listen_port=0x10", "listen_port= 1",
        "listen_port=1 ", "listen_port=\u0661", "listen_port=+1", "listen_port=1_0",
        "fwmark=4294967296", "fwmark=0x1", "replace_peers=false", "replace_peers=True",
        "replace_peers=", "Listen_port=1", "listen_port =1", "unknown=1", "=", "=1",
        # These belong to a peer.
        "endpoint=1.2.3.4:5", "allowed_ip=::/0", "remove=true", "public_key=1",
    ],
)  # fmt: skip
def test_a_bad_interface_line_is_einval(line: str) -> None:
    assert refuse(line).errno == EINVAL


@pytest.mark.parametrize(
    "line",
    [
        "remove=false", "update_only=1", "replace_allowed_ips=yes", "preshared_key=", "endpoint=",
        "endpoint=1.2.3.4", "endpoint=1.2.3.4:", "endpoint=1.2.3.4:65536", "endpoint=[::1]",
        "endpoint=::1:5", "endpoint=[1.2.3.4]:5", "endpoint=example.org:5", "endpoint=1.2.3:5",
        "endpoint=[fe80::1%nosuch]:5", "endpoint=[fe80::1%]:5", "endpoint=:5",
        "persistent_keepalive_interval=off", "persistent_keepalive_interval=65536",
        "allowed_ip=", "allowed_ip=1.2.3.4", "allowed_ip=1.2.3.4/", "allowed_ip=1.2.3.4/33",
        "allowed_ip=::/129", "allowed_ip=::/-1", "allowed_ip=1.2.3.4/+8", "allowed_ip=1.2.3.4/08",
        "allowed_ip=--::/0", "allowed_ip=+::/0", "allowed_ip=fe80::%eth0/64", "allowed_ip=-",
        "allowed_ip=1.2.3.4/255.0.0.0", "protocol_version=2", "protocol_version=",
        "rx_bytes=1", "last_handshake_time_sec=1",
        # These belong to the interface.
        "listen_port=1", "replace_peers=true", f"private_key={KEY}", "fwmark=0",
    ],
)  # fmt: skip
def test_a_bad_peer_line_is_einval(line: str) -> None:
    assert refuse(f"public_key={KEY}", line).errno == EINVAL


def test_a_line_without_an_equals_sign_is_eproto() -> None:
    assert refuse("listen_port").errno == EPROTO


@pytest.mark.parametrize("text", ["", "set=1", "set=1\n", "get=1\n\n", "set=2\n\n", "set=1\n\n\n"])
def test_a_request_that_is_not_whole_or_not_a_set_is_eproto(text: str) -> None:
    with pytest.raises(UapiError) as caught:
        parse_set_untrusted(text, scope)
    assert caught.value.errno == EPROTO


def test_the_error_tells_line_and_key_and_what_was_expected() -> None:
    error = refuse("listen_port=1", "fwmark=many")
    assert (error.line, error.key) == (3, "fwmark")
    assert str(error) == "line 3: fwmark: expected a number from 0 to 4294967295, found 'many'"


@pytest.mark.parametrize("line", [f"private_key={KEY}q", f"preshared_key={KEY}q", f"{KEY}=q"])
def test_no_key_is_in_the_error(line: str) -> None:
    for lines in ([line], [f"public_key={KEY}", line]):
        assert not re.search("(ab){4}", str(refuse(*lines)))


def test_the_answer_has_the_lines_of_wireguard_go_in_its_order() -> None:
    psk = parse_peer(f"preshared_key={'cd' * 32}").preshared_key
    assert psk is not None
    peer = PeerStats(
        RAW_KEY,
        preshared_key=psk,
        endpoint=Endpoint("fe80::1", 5, 7),
        last_handshake_ns=1_700_000_000_000_000_001,
        rx_bytes=1,
        tx_bytes=2,
        persistent_keepalive=25,
        allowed_ips=(ip_network("10.0.0.0/8"), ip_network("::ffff:1.2.3.4/128")),
        drops={"replay": 1},
    )
    stats = InterfaceStats(psk, RAW_KEY, listen_port=51820, fwmark=16, peers=(peer,))
    assert format_get(stats) == (
        f"private_key={'cd' * 32}\nlisten_port=51820\nfwmark=16\n"
        f"public_key={KEY}\npreshared_key={'cd' * 32}\nprotocol_version=1\n"
        "endpoint=[fe80::1%7]:5\n"
        "last_handshake_time_sec=1700000000\nlast_handshake_time_nsec=1\n"
        "tx_bytes=2\nrx_bytes=1\npersistent_keepalive_interval=25\n"
        "allowed_ip=10.0.0.0/8\nallowed_ip=::ffff:1.2.3.4/128\n"
        "errno=0\n\n"
    )


def test_what_is_not_set_has_no_line_but_a_peer_without_preshared_key_shows_zeros() -> None:
    assert format_get(InterfaceStats()) == "errno=0\n\n"
    text = format_get(InterfaceStats(peers=(PeerStats(RAW_KEY),)))
    assert f"preshared_key={'0' * 64}\n" in text
    assert "endpoint" not in text


def test_an_answer_with_an_error_raises_it() -> None:
    for text in (f"errno=-{EADDRINUSE}\n\n", f"errno={EADDRINUSE}\n\n"):
        with pytest.raises(UapiError) as caught:
            parse_get(text, scope)
        assert caught.value.errno == EADDRINUSE


def test_an_answer_cut_short_is_eproto() -> None:
    with pytest.raises(UapiError) as caught:
        parse_get(f"public_key={KEY}\n", scope)
    assert caught.value.errno == EPROTO


def test_unknown_keys_of_an_answer_are_left_out() -> None:
    text = f"future=1\npublic_key={KEY}\nfuture=2\nerrno=0\n\n"
    assert parse_get(text, scope) == InterfaceStats(peers=(PeerStats(RAW_KEY),))
