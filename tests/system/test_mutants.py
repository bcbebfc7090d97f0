"""A test of the interoperability suite: it notices a fault that was planted in wgpy."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from interop.results import Result
from interop.runner import play_all
from tests.mutants import FAULTS

# One group, so that all are played once, side by side; slow, so that they begin first.
pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.xdist_group("mutants")]

_NOTICED_BY = {
    "responder-rekeys": "rekey-by-time-right",
    "no-padding": "handshake-left",
    "small-replay-window": "reordered-and-repeated-right",
    "early-passive-keepalive": "passive-keepalive-right",
    "no-jitter": "nobody-answers-left",
    "no-mark-inward": "congestion-on-the-way-right",
    "impatient-retry": "lost-initiation-left",
    "never-under-load": "cookie-under-load-right",
    "no-replay-check": "reordered-and-repeated-right",
    "counter-reused": "handshake-left",
    "no-preshared-key": "psk-present-left",
    "no-mac2": "cookie-under-load-left",
    "roams-unauthenticated": "forged-packets-move-nobody-right",
    "any-source-allowed": "foreign-source-right",
    "old-timestamps-accepted": "replayed-messages-right",
    "never-roams": "roaming-over-v6-right",
    "endless-counters": "counters-end",
    "no-persistent-keepalive": "nat-changes-port-left",
    "keepalive-not-shown": "planes-swapped-under-traffic-left",
    "no-fwmark": "full-tunnel-left",
    "refuses-fragments": "narrow-path-v4-left",
    "routing-loops": "routing-loop-left",
}


def test_every_planted_fault_has_its_scenario() -> None:
    assert set(_NOTICED_BY) == set(FAULTS)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    """Of each fault; they are played side by side, as most of their time is waiting."""

    directory = tmp_path_factory.mktemp("mutants")

    def play(fault: str) -> Result:
        command = f"{sys.executable} -m tests.mutants {fault}"
        (result,) = play_all(
            "wireguard-go-bookworm", [_NOTICED_BY[fault]], command, directory / fault
        )
        return result

    with ThreadPoolExecutor(4) as pool:
        return dict(zip(FAULTS, pool.map(play, FAULTS), strict=True))


@pytest.mark.parametrize("fault", FAULTS)
def test_the_suite_notices(fault: str, results: dict[str, Result]) -> None:
    assert results[fault].outcome == "fail", f"{fault}: {results[fault]}"
    assert "Traceback" not in results[fault].detail
