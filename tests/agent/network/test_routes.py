"""Which routes the kernel is to have, and the order of changes."""

from collections.abc import Callable
from errno import EPERM, ESRCH
from ipaddress import ip_address, ip_network
from struct import pack
from typing import Any, Self

import pytest
from pyroute2.netlink import NLM_F_CREATE, NLM_F_REPLACE
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from agent.network import rtnetlink
from agent.network.base import PROTOCOL, TABLE, NetworkError, Report
from agent.network.guard import is_guard
from agent.network.routes import Route, RoutesDesired, wanted_routes
from agent.network.rtnetlink import (
    GUARD_METRIC,
    MAIN,
    KernelRoute,
    put_routes,
    unicast,
    unreachable,
)

_POD4, _POD6 = ip_network("10.244.2.0/24"), ip_network("fd00:244:0:2::/64")
_NODE = ip_network("192.0.2.2/32")
_OWN = ip_address("10.244.3.0")
_NEWROUTE, _DELROUTE = 24, 25
_ANY, _UNICAST, _UNREACHABLE = 0, 1, 7
_UNIVERSE, _LINK, _NOWHERE = 0, 253, 255


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
    """Remembers what it is told; another library reads it."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.messages: list[rtmsg] = []
        self.bodies: list[bytes] = []
        # What it lists of its own.
        self.there: list[bytes] = []
        self.refusal = 0
        self.dumps = 0

    def get_links(self) -> list[Any]:
        return [_Link("wgpy0", 7)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def dump(self, _kind: int, _body: bytes) -> list[bytes]:
        self.dumps += 1
        return self.there

    def ask(self, kind: int, body: bytes, flags: int = 0) -> list[bytes]:
        message = rtmsg(pack("=IHHII", 16 + len(body), kind, flags, 0, 0) + body)
        message.decode()
        assert message["proto"] == PROTOCOL
        self.messages.append(message)
        self.bodies.append(body)
        verb = {(_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE): "replace", (_DELROUTE, 0): "del"}
        self.told.append((verb[kind, flags], f"{message.get_attr('RTA_DST')}/{message['dst_len']}"))
        if self.refusal:
            raise NetlinkError(self.refusal, "refused")
        return []


class _Link(dict[str, int]):
    def __init__(self, name: str, index: int) -> None:
        super().__init__(index=index)
        self._name = name

    def get_attr(self, _: str) -> str:
        return self._name


@pytest.fixture(autouse=True)
def kernel(monkeypatch: pytest.MonkeyPatch) -> _Kernel:
    made = _Kernel()
    monkeypatch.setattr(rtnetlink, "Connection", lambda: made)
    return made


Put = Callable[[list[KernelRoute], list[KernelRoute]], Report]


@pytest.fixture
def put(kernel: _Kernel) -> Put:
    def do(existing: list[KernelRoute], wanted: list[KernelRoute]) -> Report:
        report = Report()
        put_routes(kernel, existing, wanted, report)
        return report

    return do


def test_what_is_there_is_not_touched(kernel: _Kernel, put: Put) -> None:
    routes = [unicast(_POD4, "wgpy0", mtu=1300), unreachable(_POD6)]
    report = put(routes, routes)
    assert (kernel.told, report.changed) == ([], [])


def test_a_route_that_differs_is_replaced_and_never_deleted_first(
    kernel: _Kernel, put: Put
) -> None:
    report = put([unicast(_POD4, "wgpy1")], [unicast(_POD4, "wgpy0")])
    assert kernel.told == [("replace", str(_POD4))]
    assert report.changed == [f"route {_POD4} dev wgpy0 is set, it was {_POD4} dev wgpy1"]


def test_new_routes_come_before_old_ones_go(kernel: _Kernel, put: Put) -> None:
    put([unreachable(_POD6), unicast(_NODE, "wgpy0")], [unicast(_POD4, "wgpy0")])
    assert kernel.told[0] == ("replace", str(_POD4))
    assert sorted(kernel.told[1:]) == [("del", str(_NODE)), ("del", str(_POD6))]


def test_a_route_over_a_lane_that_is_missing_does_not_stop_the_others(
    kernel: _Kernel, put: Put
) -> None:
    report = put([], [unicast(_POD4, "wgpy9"), unreachable(_POD6)])
    assert kernel.told == [("replace", str(_POD6))]
    with pytest.raises(NetworkError, match="there is no interface wgpy9"):
        report.end()


def test_what_has_gone_by_itself_meanwhile_is_no_failure(kernel: _Kernel, put: Put) -> None:
    kernel.refusal = ESRCH
    assert put([unicast(_POD4, "wgpy0")], []).end() == [f"route {_POD4} dev wgpy0 is removed"]
    # However many: they are listed once, by version of IP.
    listed = kernel.dumps
    nodes = [unicast(ip_network((number, 32)), "wgpy0", TABLE) for number in range(100)]
    assert len(put(nodes, []).end()) == 100
    assert kernel.dumps == 2 * listed


def test_what_cannot_be_removed_is_a_failure(kernel: _Kernel, put: Put) -> None:
    put([], [unicast(_POD4, "wgpy0")])
    kernel.there, kernel.refusal = kernel.bodies, EPERM
    with pytest.raises(NetworkError, match=f"route {_POD4}: refused"):
        put([unicast(_POD4, "wgpy0")], []).end()


@pytest.mark.parametrize(
    ("route", "fields", "values"),
    [
        (
            unicast(_POD4, "wgpy0", mtu=1300, source=_OWN),
            (_UNICAST, _LINK),
            {
                "RTA_DST": "10.244.2.0",
                "RTA_TABLE": MAIN,
                "RTA_PRIORITY": 0,
                "RTA_OIF": 7,
                "RTA_METRICS": 1300,
                "RTA_PREFSRC": "10.244.3.0",
            },
        ),
        (
            unicast(_POD6, "wgpy0", TABLE),
            (_UNICAST, _UNIVERSE),
            {"RTA_DST": "fd00:244:0:2::", "RTA_TABLE": TABLE, "RTA_PRIORITY": 1, "RTA_OIF": 7},
        ),
        (
            unreachable(ip_network("0.0.0.0/0")),
            (_UNREACHABLE, _UNIVERSE),
            {"RTA_TABLE": MAIN, "RTA_PRIORITY": GUARD_METRIC},
        ),
    ],
)
def test_the_kernel_is_told_all_of_a_route(
    kernel: _Kernel,
    put: Put,
    route: KernelRoute,
    fields: tuple[int, int],
    values: dict[str, Any],
) -> None:
    put([], [route])
    (message,) = kernel.messages
    assert (message["type"], message["scope"]) == fields
    told = {name: message.get_attr(name) for name, *_ in message["attrs"]}
    if "RTA_METRICS" in told:
        told["RTA_METRICS"] = told["RTA_METRICS"].get_attr("RTAX_MTU")
    assert told == values


def test_a_route_is_deleted_whatever_others_have_made_of_it(kernel: _Kernel, put: Put) -> None:
    put([unicast(_POD4, "wgpy0", mtu=1300, source=_OWN)], [])
    (message,) = kernel.messages
    assert (message["type"], message["scope"]) == (_ANY, _NOWHERE)
    assert [name for name, *_ in message["attrs"]] == [
        "RTA_TABLE",
        "RTA_PRIORITY",
        "RTA_DST",
        "RTA_OIF",
    ]
