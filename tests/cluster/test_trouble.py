"""How calls are counted."""

from __future__ import annotations

from tests.cluster.trouble import Call, Request, busiest


def _requests(pod: str, *times: float) -> list[Request]:
    return [Request(at, pod, Call("watch", "nodes"), spoilt=False) for at in times]


def test_the_worst_second_is_found_wherever_it_begins() -> None:
    requests = _requests("one", 0.0, 0.9, 1.0, 1.5, 1.8, 5.0)
    assert busiest(requests, 1.0) == {"one": 4}
    assert busiest(requests, 10.0) == {"one": 6}
    assert busiest(requests, 0.1) == {"one": 1}


def test_each_pod_is_counted_for_itself() -> None:
    requests = [*_requests("one", 0.0, 0.1), *_requests("other", 0.2), *_requests("one", 0.3)]
    assert busiest(requests, 1.0) == {"one": 3, "other": 1}
    assert busiest([], 1.0) == {}
