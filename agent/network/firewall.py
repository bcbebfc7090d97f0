"""The packet filter of the node: agent.network.ruleset has what it says."""

from agent.network.nft import Table
from agent.network.ruleset import TABLE_NAME, FirewallDesired, ruleset


class Firewall(Table[FirewallDesired]):
    """Table `inet wgpy`; its counters are those of ruleset.COUNTERS."""

    name = "firewall"

    def __init__(self) -> None:
        super().__init__(TABLE_NAME, ruleset)
