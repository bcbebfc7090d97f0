"""`wgpy up` and `wgpy down` in a network namespace, beside the real wg-quick (needs root)."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from interop.shell import wait_until
from wgpy.uapi.paths import socket_path

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
KEY = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
PEER = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="

SPLIT = "10.9.0.0/25, 10.8.0.0/16, fd08::/64, fd09::/64, 10.8.3.0/24"
FULL = "0.0.0.0/0, ::/0, 10.8.0.0/16"


class Host:
    """A namespace with an uplink of MTU 1400, a directory of files, and both programs."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory
        directory.chmod(0o700)
        self.config = directory / f"{name}.conf"
        # wg-quick starts the userspace implementation by its name.
        program = directory / "wgpy"
        program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m wgpy "$@"\n')
        program.chmod(0o755)
        self.environment = os.environ | {
            "PATH": f"{directory}:{os.environ['PATH']}",
            "WG_QUICK_USERSPACE_IMPLEMENTATION": "wgpy",
        }
        subprocess.run(["ip", "netns", "add", name], check=True)
        for command in (
            "link set lo up",
            "link add uplink type veth peer name far",
            # Link-local addresses would come in their own time.
            "link set uplink addrgenmode none",
            "link set far addrgenmode none",
            "link set uplink mtu 1400 up",
            "link set far up",
            "addr add 192.0.2.1/24 dev uplink",
            "route add default via 192.0.2.254",
        ):
            subprocess.run(["ip", "-n", name, *command.split()], check=True)

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["ip", "netns", "exec", self.name, *words],
            capture_output=True,
            text=True,
            check=False,
            env=self.environment,
            timeout=60,
        )

    def wgpy(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return self.run("wgpy", *words)

    def write(self, interface: str = "", allowed: str = SPLIT) -> None:
        self.config.write_text(
            f"[Interface]\nPrivateKey = {KEY}\nListenPort = 51999\n"
            "Address = 10.9.0.1/24, fd09::1/64\nAddress = 10.9.1.1\n"
            f"{interface}\n[Peer]\nPublicKey = {PEER}\nEndpoint = 192.0.2.7:5\n"
            f"AllowedIPs = {allowed}\n"
        )
        self.config.chmod(0o600)

    def state(self) -> str:
        """All that up changes, without link-local addresses, which are random."""
        commands = [
            "ip -4 rule",
            "ip -6 rule",
            "ip -4 route show table all",
            "ip -6 route show table all",
            "ip -o addr",
            "ip -o link",
            "nft list ruleset",
        ]
        text = "\n".join(self.run(*command.split()).stdout for command in commands)
        text = re.sub(r"fe80::[0-9a-f:]{4,}", "fe80::x", text)
        text = re.sub(r" (valid_lft|preferred_lft|link/\S+) .*", "", text)
        return "\n".join(sorted(re.sub(r"^\d+: ", "", line) for line in text.splitlines()))

    def state_when_up(self) -> str:
        """The kernel adds the local route of an IPv6 address a moment after the address."""

        def found() -> str:
            state = self.state()
            return state if "local fd09::1 " in state else ""

        return wait_until("the IPv6 address is in use", found, 10)

    def close(self) -> None:
        socket_path(self.name).unlink(missing_ok=True)
        subprocess.run(["ip", "netns", "del", self.name], check=True)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(f"tlq{os.getpid()}", tmp_path)
    yield made
    made.close()


def ok(done: "subprocess.CompletedProcess[str]") -> None:
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("interface", "allowed"),
    [
        ("", SPLIT),
        ("", FULL),
        ("", "0.0.0.0/0"),
        ("Table = off", FULL),
        ("Table = auto", SPLIT),
        ("Table = 1234", f"{SPLIT}, 0.0.0.0/0"),
        ("MTU = 1300", SPLIT),
        ("FwMark = 0x77", FULL),
    ],
)
def test_up_makes_what_wg_quick_makes(host: Host, interface: str, allowed: str) -> None:
    before = host.state()
    host.write(interface, allowed)
    ok(host.run("wg-quick", "up", str(host.config)))
    theirs = host.state_when_up()
    ok(host.run("wg-quick", "down", str(host.config)))
    assert host.state() == before
    ok(host.wgpy("up", str(host.config)))
    ours = host.state_when_up()
    ok(host.wgpy("down", str(host.config)))
    assert ours == theirs
    assert host.state() == before


@pytest.mark.parametrize("allowed", [SPLIT, FULL])
def test_either_takes_down_what_the_other_has_made(host: Host, allowed: str) -> None:
    before = host.state()
    host.write("", allowed)
    ok(host.run("wg-quick", "up", str(host.config)))
    ok(host.wgpy("down", str(host.config)))
    assert host.state() == before
    ok(host.wgpy("up", str(host.config)))
    ok(host.run("wg-quick", "down", str(host.config)))
    assert host.state() == before


def test_the_mtu_is_that_of_the_path_less_80(host: Host) -> None:
    host.write()
    ok(host.wgpy("up", str(host.config)))
    assert f"{host.name}: " in host.state()
    assert " mtu 1320 " in host.run("ip", "link", "show", host.name).stdout
    ok(host.wgpy("down", str(host.config)))


def test_hooks_run_in_order_with_the_name_of_the_interface(host: Host) -> None:
    log = host.directory / "log"
    hooks = [
        f"{key} = echo {key} %i >> {log}" for key in ("PostUp", "PreUp", "PostDown", "PreDown")
    ]
    host.write("\n".join(hooks))
    ok(host.wgpy("up", str(host.config)))
    ok(host.wgpy("down", str(host.config)))
    order = ["PreUp", "PostUp", "PreDown", "PostDown"]
    assert log.read_text().splitlines() == [f"{key} {host.name}" for key in order]


@pytest.mark.parametrize(
    ("interface", "allowed", "message"),
    [
        ("PostUp = exit 3", FULL, "the hook 'exit 3' failed with status 3"),
        ("Address = 10.9.0.1/24", SPLIT, "File exists"),
        ("PreUp = false", SPLIT, "the hook 'false' failed"),
    ],
)
def test_a_step_that_fails_undoes_all_before_it(
    host: Host, interface: str, allowed: str, message: str
) -> None:
    before = host.state()
    host.write(interface, allowed)
    done = host.wgpy("up", str(host.config))
    assert done.returncode == 1 and message in done.stderr.splitlines()[-1]
    assert host.state() == before
    assert not socket_path(host.name).exists()


def test_a_bad_file_makes_nothing_and_runs_no_hook(host: Host) -> None:
    # Links that were made just now are still coming up.
    wait_until("the links are up", lambda: "NO-CARRIER" not in host.state(), 10)
    wait_until("and their routes", lambda: "multicast ff00::/8 dev far" in host.state(), 10)
    before = host.state()
    host.write("PreUp = echo ran\nFwMark = x")
    done = host.wgpy("up", str(host.config))
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"wgpy: {host.config}:7: FwMark: expected off")
    assert done.stdout == "" and host.state() == before


def test_being_terminated_in_the_middle_undoes_all(host: Host) -> None:
    before = host.state()
    host.write("PostUp = echo waiting; exec sleep 60", FULL)
    process = subprocess.Popen(
        ["ip", "netns", "exec", host.name, "wgpy", "up", str(host.config)],
        env=host.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.terminate()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 143, err
    assert host.state() == before


def test_up_twice_and_down_twice_are_refused(host: Host) -> None:
    host.write()
    ok(host.wgpy("up", str(host.config)))
    up = host.state_when_up()
    again = host.wgpy("up", str(host.config))
    assert again.returncode == 1 and "exists already" in again.stderr
    assert host.state_when_up() == up
    ok(host.wgpy("down", str(host.config)))
    again = host.wgpy("down", str(host.config))
    assert again.returncode == 1 and "is not a WireGuard interface" in again.stderr


def test_save_config_writes_what_up_reads_again(host: Host) -> None:
    host.write("SaveConfig = true\nMTU = 1300\nTable = 77\nPostUp = true")
    ok(host.wgpy("up", str(host.config)))
    first = host.state_when_up()
    ok(host.wgpy("set", host.name, "peer", PEER, "persistent-keepalive", "25"))
    ok(host.wgpy("down", str(host.config)))
    text = host.config.read_text()
    assert "PersistentKeepalive = 25\n" in text and "PostUp = true\n" in text
    assert host.config.stat().st_mode & 0o777 == 0o600
    ok(host.wgpy("up", str(host.config)))
    assert host.state_when_up() == first
    ok(host.wgpy("down", str(host.config)))


def test_the_saved_file_is_the_one_of_wg_quick(host: Host) -> None:
    host.write("MTU = 1300\nTable = 77\nPostUp = true\nPreDown = true")
    original = host.config.read_text()
    ok(host.wgpy("up", str(host.config)))
    # It would save the link-local address that the kernel gives every TUN.
    host.run("ip", "-6", "addr", "flush", "dev", host.name, "scope", "link")
    ok(host.wgpy("save", str(host.config)))
    ours = host.config.read_text()
    host.config.write_text(original)
    ok(host.run("wg-quick", "save", str(host.config)))
    assert ours == host.config.read_text()
    ok(host.wgpy("down", str(host.config)))


@pytest.mark.parametrize("tail", ["", "\n", "# end"])
def test_strip_prints_what_wg_quick_prints(host: Host, tail: str) -> None:
    host.write("MTU=1300\n  DNS = 1.1.1.1 # x\npostup = true\n# PostUp = x\nSaveConfig=false")
    host.config.write_text(host.config.read_text() + tail)
    assert host.wgpy("strip", str(host.config)).stdout == (
        host.run("wg-quick", "strip", str(host.config)).stdout
    )


def test_dns_goes_to_resolvconf_and_comes_back(host: Host) -> None:
    log = host.directory / "log"
    program = host.directory / "resolvconf"
    program.write_text(f'#!/bin/sh\necho "$@" >> {log}\ncase $1 in -a) cat >> {log};; esac\n')
    program.chmod(0o755)
    host.write("DNS = 192.0.2.53, 2001:db8::53, example.org\nDNS = lan")
    ok(host.run("wg-quick", "up", str(host.config)))
    ok(host.run("wg-quick", "down", str(host.config)))
    theirs = log.read_text()
    log.unlink()
    ok(host.wgpy("up", str(host.config)))
    ok(host.wgpy("down", str(host.config)))
    assert log.read_text() == theirs


def test_a_world_readable_file_is_warned_of(host: Host) -> None:
    host.write()
    host.config.chmod(0o644)
    host.directory.chmod(0o755)
    assert "is world accessible" in host.wgpy("strip", str(host.config)).stderr
    host.directory.chmod(0o700)
    assert host.wgpy("strip", str(host.config)).stderr == ""


THIRD = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0="
BASE = (
    f"[Interface]\nPrivateKey={KEY}\nListenPort=51999\nFwMark=7\n"
    f"[Peer]\nPublicKey={PEER}\nPresharedKey={THIRD}\nEndpoint=192.0.2.7:5\n"
    "AllowedIPs=10.1.0.0/16,10.2.0.0/16\nPersistentKeepalive=25\n"
    f"[Peer]\nPublicKey={KEY}\nAllowedIPs=10.3.0.0/16\n"
)


@pytest.mark.parametrize(
    "wanted",
    [
        BASE,
        f"[Interface]\nPrivateKey={KEY}\nListenPort=51999\n",
        # With key and keepalive: the syncconf of Debian 12, unlike later ones, would leave them.
        (
            f"[Interface]\nPrivateKey={KEY}\nListenPort=51999\n"
            f"[Peer]\nPublicKey={PEER}\nPresharedKey={THIRD}\nPersistentKeepalive=0\n"
        ),
        f"{BASE}[Peer]\nPublicKey={THIRD}\nAllowedIPs=10.2.0.0/16,10.4.0.0/16\n",
        BASE.replace("10.1.0.0/16", "10.3.0.0/16").replace("=25", "=off"),
        BASE.replace("FwMark=7", "FwMark=8").replace(":5", ":6"),
    ],
)
@pytest.mark.parametrize("command", ["syncconf", "setconf", "addconf"])
def test_a_file_leads_to_the_state_that_wg_leads_to(host: Host, command: str, wanted: str) -> None:
    ok(host.wgpy(host.name))
    base, target = host.directory / "base", host.directory / "target"
    base.write_text(BASE)
    target.write_text(wanted)
    ends = []
    for program in ("wg", "wgpy"):
        ok(host.run("wg", "setconf", host.name, str(base)))
        ok(host.run(program, command, host.name, str(target)))
        theirs, ours = (host.run(tool, "showconf", host.name).stdout for tool in ("wg", "wgpy"))
        assert theirs == ours
        sections = theirs.split("\n[Peer]\n")
        ends.append(
            (sections[0], sorted(re.sub(r"AllowedIPs = (.*)", _sorted, s) for s in sections))
        )
    assert ends[0] == ends[1]
    socket_path(host.name).unlink()


def test_syncconf_takes_away_what_the_file_does_not_give(host: Host) -> None:
    ok(host.wgpy(host.name))
    base, target = host.directory / "base", host.directory / "target"
    base.write_text(BASE)
    target.write_text(f"[Interface]\nPrivateKey={KEY}\n[Peer]\nPublicKey={PEER}\n")
    ok(host.wgpy("setconf", host.name, str(base)))
    ok(host.wgpy("syncconf", host.name, str(target)))
    text = host.wgpy("showconf", host.name).stdout
    assert text == (
        f"[Interface]\nListenPort = 51999\nPrivateKey = {KEY}\n\n"
        f"[Peer]\nPublicKey = {PEER}\nEndpoint = 192.0.2.7:5\n"
    )
    socket_path(host.name).unlink()


def _sorted(match: re.Match[str]) -> str:
    return "AllowedIPs = " + ", ".join(sorted(match[1].split(", ")))


def test_a_full_tunnel_carries_a_ping_and_its_own_packets_go_around_it(
    host: Host, tmp_path_factory: pytest.TempPathFactory
) -> None:
    far = Host(f"tlf{os.getpid()}", tmp_path_factory.mktemp("far"))
    try:
        for command in (
            f"-n {host.name} link set far netns {far.name} name near",
            f"-n {far.name} addr add 192.0.2.254/24 dev near",
            f"-n {far.name} link set near up",
            f"-n {far.name} addr flush dev uplink",
        ):
            subprocess.run(["ip", *command.split()], check=True)
        keys = [far.wgpy("genkey").stdout.strip() for _ in range(2)]
        public = [
            subprocess.run(["wg", "pubkey"], input=key, capture_output=True, text=True, check=True)
            for key in keys
        ]
        here, there = (done.stdout.strip() for done in public)
        host.config.write_text(
            f"[Interface]\nPrivateKey={keys[0]}\nAddress=10.66.0.1\n"
            f"[Peer]\nPublicKey={there}\nEndpoint=192.0.2.254:51900\nAllowedIPs=0.0.0.0/0\n"
        )
        far.config.write_text(
            f"[Interface]\nPrivateKey={keys[1]}\nListenPort=51900\nAddress=10.77.0.1\n"
            f"[Peer]\nPublicKey={here}\nAllowedIPs=10.66.0.1\n"
        )
        ok(far.wgpy("up", str(far.config)))
        ok(host.wgpy("up", str(host.config)))
        ok(host.run("ping", "-c", "3", "-i", "0.2", "-W", "5", "10.77.0.1"))
        received = host.wgpy("show", host.name, "transfer").stdout.split()[1]
        assert int(received) > 3 * 84
        ok(host.wgpy("down", str(host.config)))
        ok(far.wgpy("down", str(far.config)))
    finally:
        far.close()
