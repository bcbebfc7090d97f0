"""Which routes the kernel is to have, and the order of changes."""

from errno import ESRCH
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from pyroute2.netlink.exceptions import NetlinkError

from agent.network.base import PROTOCOL, TABLE, NetworkError, Report
from agent.network.guard import is_guard
from agent.network.routes import Route, RoutesDesired, wanted_routes
from agent.network.rtnetlink import MAIN, KernelRoute, put_routes, unicast, unreachable

_POD4, _POD6 = ip_network("10.244.2.0/24"), ip_network("fd00:244:0:2::/64")
_NODE = ip_network("192.0.2.2/32")
_OWN = ip_address("10.244.3.0")


def test_a_pod_route_takes_the_best_metric_of_its_family() -> None:
    desired = RoutesDesired(pods=(Route(_POD4, "wgpy0", 1300, _OWN), Route(_POD6, "wgpy1")))
    assert list(wanted_routes(desired)) == [
        KernelRoute(_POD4, MAIN, 0, "wgpy0", 1300, _OWN),
        KernelRoute(_POD6, MAIN, 1, "wgpy1", 0, None),
    ]


def test_pods_of_a_peer_that_is_not_ready_are_left_to_the_guard() -> None:
    assert list(wanted_routes(RoutesDesired(pods=(Route(_POD4, None),)))) == []


def test_a_node_address_is_unreachable_to_pods_below_its_lane() -> None:
    ready = RoutesDesired(nodes=(Route(_NODE, "wgpy0"),))
    assert list(wanted_routes(ready)) == [
        unreachable(_NODE, TABLE),
        unicast(_NODE, "wgpy0", TABLE),
    ]
    waiting = RoutesDesired(nodes=(Route(_NODE, None),))
    assert list(wanted_routes(waiting)) == [unreachable(_NODE, TABLE)]


def test_only_unreachable_routes_of_the_main_table_are_the_guards() -> None:
    assert is_guard(unreachable(_POD4))
    assert not is_guard(unreachable(_NODE, TABLE))
    assert not is_guard(unicast(_POD4, "wgpy0"))


class _Kernel:
    """Remembers what it is told."""

    def __init__(self, refusal: int = 0) -> None:
        self.told: list[tuple[str, str]] = []
        self._refusal = refusal

    def get_links(self) -> list[Any]:
        return [_Link("wgpy0", 7)]

    def get_routes(self, **_: int) -> list[Any]:
        return []

    def route(self, verb: str, **words: Any) -> None:
        assert words["proto"] == PROTOCOL
        self.told.append((verb, words["dst"]))
        if self._refusal:
            raise NetlinkError(self._refusal, "refused")


class _Link(dict[str, int]):
    def __init__(self, name: str, index: int) -> None:
        super().__init__(index=index)
        self._name = name

    def get_attr(self, _: str) -> str:
        return self._name


def _put(existing: list[KernelRoute], wanted: list[KernelRoute]) -> tuple[_Kernel, Report]:
    kernel, report = _Kernel(), Report()
    put_routes(kernel, existing, wanted, report)
    return kernel, report


def test_what_is_there_is_not_touched() -> None:
    routes = [unicast(_POD4, "wgpy0", mtu=1300), unreachable(_POD6)]
    kernel, report = _put(routes, routes)
    assert (kernel.told, report.changed) == ([], [])


def test_a_route_that_differs_is_replaced_and_never_deleted_first() -> None:
    kernel, report = _put([unicast(_POD4, "wgpy1")], [unicast(_POD4, "wgpy0")])
    assert kernel.told == [("replace", str(_POD4))]
    assert report.changed == [f"route {_POD4} dev wgpy0 is set, it was {_POD4} dev wgpy1"]


def test_new_routes_come_before_old_ones_go() -> None:
    kernel, _ = _put([unreachable(_POD6), unicast(_NODE, "wgpy0")], [unicast(_POD4, "wgpy0")])
    assert kernel.told[0] == ("replace", str(_POD4))
    assert sorted(kernel.told[1:]) == [("del", str(_NODE)), ("del", str(_POD6))]


def test_a_route_over_a_lane_that_is_missing_does_not_stop_the_others() -> None:
    kernel, report = _put([], [unicast(_POD4, "wgpy9"), unreachable(_POD6)])
    assert kernel.told == [("replace", str(_POD6))]
    with pytest.raises(NetworkError, match="there is no interface wgpy9"):
        report.end()


def test_what_has_gone_by_itself_meanwhile_is_no_failure() -> None:
    report = Report()
    # Of its own the kernel here lists no route.
    put_routes(_Kernel(ESRCH), [unicast(_POD4, "wgpy0")], [], report)
    assert report.end() == [f"route {_POD4} dev wgpy0 is removed"]
