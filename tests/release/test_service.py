"""The systemd unit at work: on a Debian that systemd has booted, installed as the page says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from interop.shell import wait_until
from tests.docs.pages import ROOT, blocks
from tests.release.machines import PACKAGES, Machine, booted
from tests.release.roots import root
from tests.release.test_install import bring_the_install_page

pytestmark = [pytest.mark.system, pytest.mark.release]

_PATIENCE = 60.0
# Two hosts of one system, in its own network and in the namespace beta, each with a unit.
_HOSTS = """
ip netns add beta
ip link add eth0 type veth peer name eth0 netns beta
ip address add 192.0.2.1/24 dev eth0
ip -n beta address add 192.0.2.2/24 dev eth0
ip link set eth0 up
ip -n beta link set eth0 up
mkdir -p /etc/wireguard /etc/systemd/system/wgpy@wg1.service.d
cat > /etc/systemd/system/wgpy@wg1.service.d/beta.conf <<END
[Service]
NetworkNamespacePath=/run/netns/beta
END
umask 077
alpha=$(wgpy genkey)
beta=$(wgpy genkey)
cat > /etc/wireguard/wg0.conf <<END
[Interface]
PrivateKey = $alpha
ListenPort = 51820
Address = 10.77.0.1/24
[Peer]
PublicKey = $(echo $beta | wgpy pubkey)
AllowedIPs = 10.77.0.2/32
END
cat > /etc/wireguard/wg1.conf <<END
[Interface]
PrivateKey = $beta
Address = 10.77.0.2/24
[Peer]
PublicKey = $(echo $alpha | wgpy pubkey)
AllowedIPs = 10.77.0.0/24
Endpoint = 192.0.2.1:51820
PersistentKeepalive = 1
END
"""
# What `up` needs most rights for: rules, routes, a setting, a hook, a file that is written.
_FULL_TUNNEL = """
umask 077
cat > /etc/wireguard/full.conf <<END
[Interface]
PrivateKey = $(wgpy genkey)
Address = 10.9.0.1/24, fd00:9::1/64
DNS = 10.9.0.2
SaveConfig = true
PostUp = nft list ruleset > /run/hook
[Peer]
PublicKey = $(wgpy genkey | wgpy pubkey)
AllowedIPs = 0.0.0.0/0, ::/0
Endpoint = 192.0.2.2:51820
END
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    directory = tmp_path_factory.mktemp("machine")
    with root("3.11", directory, *PACKAGES, "iputils-ping", "nftables", "openresolv") as system:
        page = bring_the_install_page(system)
        with booted(system, directory / "console.log") as machine:
            machine.say(f"cd /wgpy\n{page}")
            machine.say(_HOSTS)
            yield machine


def test_the_page_starts_it_and_traffic_passes(machine: Machine) -> None:
    page = blocks(ROOT / "docs" / "install.md")
    (commands,) = (b.text for b in page if b.tested and __file__.endswith(b.tested))
    machine.say(commands)
    machine.say("systemctl start wgpy@wg1")
    wait_until("an answer through the tunnel", lambda: _reaches_beta(machine), _PATIENCE)
    assert machine.say("systemctl is-enabled wgpy@wg0") == "enabled\n"
    # NET_ADMIN and NET_RAW, no new privileges, a filter for system calls.
    pid = machine.say("systemctl show --property MainPID --value wgpy@wg0").strip()
    status = machine.say(f"grep -E 'CapBnd|NoNewPrivs|Seccomp:' /proc/{pid}/status").split()
    assert status[1::2] == ["0000000000003000", "1", "2"]


def test_a_restart_brings_it_back(machine: Machine) -> None:
    machine.say("systemctl restart wgpy@wg0")
    wait_until("an answer through the tunnel", lambda: _reaches_beta(machine), _PATIENCE)


def test_a_daemon_that_dies_is_started_again(machine: Machine) -> None:
    machine.say("systemctl kill --signal KILL wgpy@wg0")
    wait_until("an answer through the tunnel", lambda: _reaches_beta(machine), _PATIENCE)
    assert machine.say("systemctl show --property NRestarts --value wgpy@wg0") == "1\n"


def test_a_reload_takes_new_peers_and_leaves_the_others_in_peace(machine: Machine) -> None:
    before = machine.say("wgpy show wg0 latest-handshakes")
    assert before.split()[1] != "0"
    machine.say(
        "cp -p /etc/wireguard/wg0.conf /root\n"
        "printf '[Peer]\\nPublicKey = %s\\nAllowedIPs = 10.77.0.3/32\\n' "
        "$(wgpy genkey | wgpy pubkey) >> /etc/wireguard/wg0.conf\n"
        "systemctl reload wgpy@wg0"
    )
    after = machine.say("wgpy show wg0 latest-handshakes")
    assert before.strip() in after and len(after.splitlines()) == 2
    # What cannot be understood changes nothing, and says why.
    machine.say("echo Nonsense = 1 >> /etc/wireguard/wg0.conf")
    assert machine.run("systemctl reload wgpy@wg0").returncode != 0
    assert "Nonsense" in _journal(machine, "wg0")
    assert machine.say("wgpy show wg0 peers").count("\n") == 2
    machine.say("mv /root/wg0.conf /etc/wireguard && systemctl reload wgpy@wg0")
    assert machine.say("wgpy show wg0 latest-handshakes").strip() == before.strip()


def test_its_rights_are_enough_for_a_full_tunnel(machine: Machine) -> None:
    before = _network(machine)
    machine.say(f"{_FULL_TUNNEL}\nsystemctl start wgpy@full")
    assert "fwmark" in machine.say("ip rule") and "wg-quick-full" in machine.say("cat /run/hook")
    assert "10.9.0.2" in machine.say("cat /etc/resolv.conf")
    machine.say("wgpy set full listen-port 51900 && systemctl stop wgpy@full")
    assert "51900" in machine.say("cat /etc/wireguard/full.conf"), "SaveConfig"
    assert "10.9.0.2" not in machine.say("cat /etc/resolv.conf")
    assert _network(machine) == before


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ("", "does not exist"),
        ("[Interface]\nAdress = 10.8.0.1/24\n", "broken.conf:2: 'Adress' is not known"),
        ("[Interface]\nAddress = 10.8.0.1/24\nPreUp = false\n", "the hook 'false' failed"),
    ],
    ids=["no file", "a slip", "a hook"],
)
def test_a_start_that_fails_says_why_and_leaves_nothing(
    config: str, why: str, machine: Machine
) -> None:
    before = _network(machine)
    if config:
        machine.say(f"umask 077\ncat > /etc/wireguard/broken.conf <<END\n{config}END\n")
    assert machine.run("systemctl start wgpy@broken").returncode != 0
    assert why in _journal(machine, "broken")
    machine.say("systemctl stop wgpy@broken && rm -f /etc/wireguard/broken.conf")
    assert _network(machine) == before


def test_a_stop_leaves_nothing(machine: Machine) -> None:
    machine.say("systemctl stop wgpy@wg0 wgpy@wg1")
    assert machine.say("ls /run/wireguard") == ""
    assert "wg0" not in machine.say("ip link") and "wg1" not in machine.say("ip -n beta link")
    running = machine.say("cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'")
    assert "wgpy" not in running
    assert machine.say("systemctl --failed --no-legend") == ""


def _reaches_beta(machine: Machine) -> bool:
    return machine.run("ping -n -c 1 -W 1 10.77.0.2").returncode == 0


def _journal(machine: Machine, name: str) -> str:
    return machine.say(f"journalctl --no-pager --output cat --unit wgpy@{name}")


def _network(machine: Machine) -> str:
    return machine.say(
        "ip -br link; ip rule; ip -6 rule; ip route show table all; nft list ruleset\n"
        "ls /run/wireguard"
    )
