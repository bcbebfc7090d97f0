"""The packet filter of the node: agent.network.ruleset has what it says."""

import shutil

from agent.network.base import NetworkError
from agent.network.iptables import IptablesFirewall
from agent.network.nft import Table, is_available
from agent.network.ruleset import TABLE_NAME, FirewallDesired, ruleset


class Firewall(Table[FirewallDesired]):
    """Table `inet wgpy`; its counters are those of ruleset.COUNTERS."""

    name = "firewall"

    def __init__(self) -> None:
        super().__init__(TABLE_NAME, ruleset)


def open_firewall() -> Firewall | IptablesFirewall:
    """The one that this host can run, nftables if it can. NetworkError if neither."""
    if is_available():
        return Firewall()
    if shutil.which("iptables-restore"):
        return IptablesFirewall()
    raise NetworkError("this host has no packet filter", "install nftables")
