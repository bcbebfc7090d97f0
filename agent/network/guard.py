"""Unreachable routes below everything: an overlay address never falls to the default route.

They are set before the first link is made and removed after the last one.
"""

from dataclasses import dataclass

from agent.network.base import Report
from agent.network.rtnetlink import (
    GUARD_METRIC,
    MAIN,
    KernelRoute,
    open_rtnetlink,
    own_routes,
    put_routes,
    unreachable,
)
from wgpy.protocol.config import Network


@dataclass(frozen=True, slots=True)
class GuardDesired:
    """All of the overlay, of both families."""

    overlay: tuple[Network, ...] = ()


class Guard:
    """The unreachable routes of the main table."""

    name = "guard"

    def reconcile(self, desired: GuardDesired) -> list[str]:
        report = Report()
        with report.step("guard"), open_rtnetlink() as ip:
            existing = [route for route in own_routes(ip) if is_guard(route)]
            put_routes(ip, existing, map(unreachable, desired.overlay), report)
        return report.end()

    def remove(self) -> None:
        self.reconcile(GuardDesired())


def is_guard(route: KernelRoute) -> bool:
    """Whether a route of ours is one of these."""
    return route.table == MAIN and route.device is None and route.metric == GUARD_METRIC
