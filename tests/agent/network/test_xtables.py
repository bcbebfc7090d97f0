"""The rules for iptables; what they do to packets is in tests/system."""

from ipaddress import ip_network

from agent.network.nft import Count
from agent.network.ruleset import COUNTERS, FirewallDesired
from agent.network.xtables import counts, own_rules, removal_text, restore_text

_DESIRED = FirewallDesired(
    lanes=("wgpy0", "wgpy1"),
    overlay=(ip_network("10.244.0.0/16"), ip_network("fd00::/56")),
    local=(ip_network("10.244.3.0/24"), ip_network("fd00:0:0:3::/64")),
    nodes=(ip_network("192.0.2.1/32"), ip_network("192.0.2.0/32")),
)
_JUMP = "-A PREROUTING -j WGPY-PREROUTING"


def _raw(*rules: str) -> str:
    return "\n".join(["*raw", ":PREROUTING ACCEPT [0:0]", *rules, "COMMIT", ""])


def test_each_family_has_only_its_own_prefixes() -> None:
    four, six = restore_text(_DESIRED, 4, ""), restore_text(_DESIRED, 6, "")
    assert "10.244.0.0/16" in four and "fd00::/56" not in four
    assert "fd00::/56" in six and "10.244.0.0/16" not in six
    # Neighbouring nodes become one rule.
    assert "-d 192.0.2.0/31 -j RETURN" in four


def test_every_chain_that_is_gone_to_is_there_also_without_prefixes() -> None:
    lines = restore_text(FirewallDesired(lanes=("wgpy0",)), 6, "").splitlines()
    chains = {line[1:].split()[0] for line in lines if line.startswith(":")}
    targets = {line.split()[-1] for line in lines if line.split()[-2:-1] in (["-g"], ["-j"])}
    assert {target for target in targets if target.startswith("WGPY")} == chains


def test_every_drop_is_counted_by_every_reason() -> None:
    drops = [line for line in restore_text(_DESIRED, 4, "").splitlines() if "DROP" in line]
    assert {line.split("wgpy:")[1].split()[0] for line in drops} == set(COUNTERS)


def test_our_jump_is_put_first_once() -> None:
    insertion = "-I PREROUTING 1 -j WGPY-PREROUTING"
    deletion = "-D PREROUTING -j WGPY-PREROUTING"
    cases = {
        _raw(): (1, 0),
        _raw(_JUMP): (0, 0),
        _raw(_JUMP, "-A PREROUTING -j ACCEPT"): (0, 0),
        _raw("-A PREROUTING -j ACCEPT", _JUMP): (1, 1),
        _raw(_JUMP, _JUMP): (1, 2),
    }
    for saved, expected in cases.items():
        lines = restore_text(_DESIRED, 4, saved).splitlines()
        assert (lines.count(insertion), lines.count(deletion)) == expected


def test_what_is_ours_differs_when_another_rule_gets_before_it() -> None:
    other = "-A PREROUTING -i eth9 -j ACCEPT"
    ours = ":WGPY-PREROUTING - [0:0]"
    assert own_rules(_raw(ours, _JUMP)) == own_rules(_raw(ours, _JUMP, other))
    assert own_rules(_raw(ours, _JUMP)) != own_rules(_raw(ours, other, _JUMP))
    assert own_rules(_raw(other)) == []


def test_removal_names_what_is_ours_and_nothing_else() -> None:
    other = "-A PREROUTING -i eth9 -j ACCEPT"
    saved = _raw(":WGPY-PREROUTING - [0:0]", _JUMP, other, "-A WGPY-PREROUTING -i lo -j RETURN")
    assert removal_text(saved).splitlines() == [
        "*raw",
        "-D PREROUTING -j WGPY-PREROUTING",
        "-F WGPY-PREROUTING",
        "-X WGPY-PREROUTING",
        "COMMIT",
    ]
    assert removal_text(_raw(other)) == ""


def test_counts_of_one_reason_are_added_up() -> None:
    saved = _raw(
        '[3:252] -A WGPY-PREROUTING -s 10.0.0.0/9 -m comment --comment "wgpy:leak" -j DROP',
        "[4:300] -A WGPY-PREROUTING -s 10.128.0.0/9 -m comment --comment wgpy:leak -j DROP",
        "[9:900] -A PREROUTING -j ACCEPT",
    )
    assert counts(saved) == {"leak": Count(7, 552)}
