"""The packet filter's text; whether it filters is for the system tests."""

import pytest

from wgpy.tools import dns, firewall
from wgpy.tools.errors import ToolError
from wgpy.tools.programs import run_hooks


def test_nft_rules_of_both_families() -> None:
    four = firewall.nft_rules("wg0", ["10.0.0.1"], 51820, 4)
    assert four.splitlines() == [
        "add table ip wg-quick-wg0",
        "add chain ip wg-quick-wg0 preraw { type filter hook prerouting priority -300; }",
        "add chain ip wg-quick-wg0 premangle { type filter hook prerouting priority -150; }",
        "add chain ip wg-quick-wg0 postmangle { type filter hook postrouting priority -150; }",
        (
            'add rule ip wg-quick-wg0 preraw iifname != "wg0" ip daddr 10.0.0.1 '
            "fib saddr type != local drop"
        ),
        "add rule ip wg-quick-wg0 postmangle meta l4proto udp mark 51820 ct mark set mark",
        "add rule ip wg-quick-wg0 premangle meta l4proto udp meta mark set ct mark",
    ]
    six = firewall.nft_rules("wg0", ["fd00::1"], 51820, 6)
    assert 'ip6 wg-quick-wg0 preraw iifname != "wg0" ip6 daddr fd00::1 ' in six


def test_iptables_rules_carry_a_comment_by_which_they_are_found() -> None:
    text = firewall.iptables_rules("wg0", ["10.0.0.1"], 7)
    rules = [line for line in text.splitlines() if line.startswith("-")]
    assert len(rules) == 3
    assert all(line.endswith('--comment "wg-quick(8) rule for wg0"') for line in rules)
    assert text.splitlines()[0] == "*raw" and text.count("COMMIT\n") == 2


def test_only_our_own_iptables_rules_are_removed() -> None:
    ours = '-A PREROUTING -j DROP -m comment --comment "wg-quick(8) rule for wg0"'
    saved = f"# x\n*raw\n:PREROUTING ACCEPT [0:0]\n{ours}\n-A INPUT -j DROP\nCOMMIT\n# y\n"
    assert firewall.removal(saved, "wg0") == f"*raw\n-D{ours[2:]}\nCOMMIT\n"
    assert firewall.removal(saved, "wg") == "" and firewall.removal("", "wg0") == ""


def test_without_any_packet_filter_there_is_no_full_tunnel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolError, match="install nftables or iptables, or set Table = off"):
        firewall.add("wg0", [], 1, 4)
    firewall.remove("wg0")


def test_without_resolvconf_dns_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolError, match="install openresolv, or take DNS out of the file"):
        dns.set_servers("wg0", ["192.0.2.53"], [])


def test_hooks_are_told_and_stop_at_the_first_failure(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(ToolError, match="^wg0: the hook 'false; echo %i' failed with status 1$"):
        run_hooks(["echo %i-%i", "false; echo %i", "echo never"], "wg0")
    out, err = capfd.readouterr()
    assert out == "wg0-wg0\n" and err == "[#] echo wg0-wg0\n[#] false; echo wg0\n"
