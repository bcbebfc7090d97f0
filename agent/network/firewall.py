"""The packet filter of the node: agent.network.ruleset has what it says."""

from agent.network.iptables import IptablesFirewall, open_iptables
from agent.network.nft import Table, is_available
from agent.network.ruleset import COUNTERS, TABLE_NAME, FirewallDesired, ruleset


class Firewall(Table[FirewallDesired]):
    """Table `inet wgpy`; its counters are those of ruleset.COUNTERS."""

    name = "firewall"

    def __init__(self) -> None:
        super().__init__(TABLE_NAME, tuple(COUNTERS), ruleset)


def open_firewall() -> Firewall | IptablesFirewall:
    """The one that this host can run, nftables if it can. NetworkError if neither."""
    return Firewall() if is_available() else open_iptables()
