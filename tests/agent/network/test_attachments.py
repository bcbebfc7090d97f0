"""What the container runtime notes of an attachment."""

import contextlib
import json
import logging
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.network.attachments import Attachment, parse_result_untrusted, read_attachments


def _cached(veth: str = "veth1", mac: str = "02:00:00:00:00:01", network: str = "wgpy") -> Any:
    """As libcni writes it."""
    return {
        "kind": "cniCacheV1",
        "containerId": "cafe",
        "config": "e30=",
        "ifName": "eth0",
        "networkName": network,
        "result": {
            "cniVersion": "0.4.0",
            "interfaces": [
                {"name": "wgpy-pods", "mac": "02:00:00:00:00:09"},
                {"name": veth, "mac": "02:00:00:00:00:08"},
                {"name": "eth0", "mac": mac, "sandbox": "/run/netns/x"},
            ],
            "ips": [
                {"version": "4", "interface": 2, "address": "10.244.3.5/24"},
                {"version": "6", "interface": 2, "address": "fd00:244:0:3::5/64"},
            ],
            "dns": {},
        },
    }


_ONE = Attachment(
    "veth1", "02:00:00:00:00:01", (ip_address("10.244.3.5"), ip_address("fd00:244:0:3::5"))
)


def _parsed(cached: Any) -> Attachment | None:
    return parse_result_untrusted(json.dumps(cached).encode())


def test_a_result_tells_veth_mac_and_addresses() -> None:
    assert _parsed(_cached()) == _ONE


def test_interfaces_that_chained_plugins_add_are_not_the_pods() -> None:
    """As bandwidth does it."""
    cached = _cached()
    cached["result"]["interfaces"].append({"name": "bwp0123", "mac": "02:00:00:00:00:07"})
    assert _parsed(cached) == _ONE


def test_results_of_other_networks_are_none_of_ours() -> None:
    assert _parsed(_cached(network="loopback")) is None


@pytest.mark.parametrize("veth", ['a" drop', "a;b", "", "véth", "a b", "a{"])
def test_a_name_that_nft_would_read_otherwise_is_refused(veth: str) -> None:
    with pytest.raises(ValueError, match="is not the name of a veth"):
        _parsed(_cached(veth=veth))


@pytest.mark.parametrize(
    "mac", ["", "02:00:00:00:00", "02:00:00:00:00:0g", ":" * 17, "!= 0 accept; drop"]
)
def test_a_hardware_address_that_is_none_is_refused(mac: str) -> None:
    with pytest.raises(ValueError, match="is not a hardware address"):
        _parsed(_cached(mac=mac))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)


@given(st.sampled_from(["interfaces", "ips", "result"]), _JSON)
def test_whatever_a_result_holds_is_an_attachment_or_a_value_error(key: str, value: Any) -> None:
    cached = _cached()
    (cached if key == "result" else cached["result"])[key] = value
    with contextlib.suppress(ValueError):
        _parsed(cached)


@given(st.binary())
def test_whatever_a_file_holds_is_a_value_error_at_worst(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        parse_result_untrusted(data)


def test_only_pods_whose_veth_is_there_count_and_bad_files_are_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, cached in {"a": _cached(), "b": _cached("gone"), "c": _cached(network="x")}.items():
        (tmp_path / name).write_text(json.dumps(cached))
    (tmp_path / "d").write_text("{")
    with caplog.at_level(logging.WARNING):
        assert read_attachments(tmp_path, ["veth1", "eth0"]) == (_ONE,)
    assert [str(tmp_path / "d") in message for message in caplog.messages] == [True]
