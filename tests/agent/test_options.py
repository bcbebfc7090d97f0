"""What an agent is told when it starts."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.options import parse
from tests.agent.kustomize import BASES, MANIFESTS, build, find

ENVIRON = {"NODE_NAME": "me"}


def test_a_pod_needs_no_options() -> None:
    options = parse([], ENVIRON)
    assert options.node == "me"
    assert options.ports == (51871, 51872)
    assert options.dataplane == "auto"
    assert options.rotate_every is None
    assert options.resync == 60.0
    assert options.keepalive == 25
    assert options.listen == ("127.0.0.1", 51870)
    assert options.launcher == Path("/run/wgpy/dataplane.sock")


@pytest.mark.parametrize("base", BASES)
def test_the_arguments_of_the_manifests_are_understood(base: str) -> None:
    agent = find(build(MANIFESTS / base), "DaemonSet", "wgpy-agent")
    command, *arguments = agent["spec"]["template"]["spec"]["containers"][0]["args"]
    assert command == "run"
    for host in ("192.0.2.1", "2001:db8::1"):
        options = parse([one.replace("$(HOST_IP)", host) for one in arguments], ENVIRON)
        assert options.listen == (host, 51870)
        assert options.proc_sys == Path("/host/proc/sys")
        assert options.overlay_from_kubeadm == (base == "kubeadm")


def test_overlays_add_up() -> None:
    arguments = ["--overlay=10.0.0.0/8", "--overlay=kubeadm", "--overlay=fd00::/48"]
    options = parse(arguments, ENVIRON)
    assert options.overlay == (ip_network("10.0.0.0/8"), ip_network("fd00::/48"))
    assert options.overlay_from_kubeadm


def test_an_empty_launcher_is_none() -> None:
    assert parse(["--launcher="], ENVIRON).launcher is None


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("--port=65535", "no port from 1 to 65534"),
        ("--port=x", "no port"),
        ("--overlay=10.0.0.1/8", "host bits"),
        ("--rotate-every=1m", "less than 600s"),
        ("--rotate-every=0d", "no time like"),
        ("--keepalive=4s", "not from 5s to 60s"),
        ("--keepalive=2m", "not from 5s to 60s"),
        ("--resync=fast", "no time like"),
        ("--listen=localhost:80", "does not appear to be"),
        ("--listen=127.0.0.1:99999", "no ADDRESS:PORT"),
        ("--dataplane=magic", "invalid choice"),
        ("--log-level=loud", "invalid choice"),
        ("--nod=x", "unrecognized"),
    ],
)
def test_what_is_wrong_is_told(
    argument: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse([argument], ENVIRON)
    assert caught.value.code == 2
    assert told in capsys.readouterr().err


def test_a_node_without_a_name_is_told_where_it_comes_from(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        parse([], {})
    assert "spec.nodeName" in capsys.readouterr().err


@given(st.integers(10, 10_000), st.sampled_from("mhd"))
def test_times_have_units(count: int, unit: str) -> None:
    seconds = {"m": 60, "h": 3600, "d": 86400}[unit] * count
    assert parse([f"--rotate-every={count}{unit}"], ENVIRON).rotate_every == seconds
