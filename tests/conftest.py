"""What all tests share: system tests never pass in silence on a machine that cannot run them."""

import os
import shutil
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from tests.docs.pages import not_run

# How long one example takes says more of the machine than of what is tested.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

# Seconds, of tests that are long by intention.
_LONGEST = 7200

_PROGRAMS = {
    "ip": "iproute2",
    "iperf3": "iperf3",
    "nft": "nftables",
    "ping": "iputils-ping",
    "sysctl": "procps",
    "wg": "wireguard-tools",
}


def pytest_configure() -> None:
    """Tests interrupt what they start; of a run in the background it would ignore that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow ones first: they mostly wait, and others can run beside them."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    for item in items:
        if item.get_closest_marker("endurance") or item.get_closest_marker("release"):
            item.add_marker(pytest.mark.timeout(_LONGEST))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A system test fails where it cannot run; leaving it out takes an explicit `-m`."""
    if item.get_closest_marker("system") and (missing := _missing()):
        pytest.fail(f'{missing} (without system tests: -m "not system")', pytrace=False)


def _missing() -> str:
    if os.geteuid() != 0:
        return "system tests need root"
    if not Path("/dev/net/tun").is_char_device():
        return "system tests need /dev/net/tun, which is missing"
    packages = {package for program, package in _PROGRAMS.items() if not shutil.which(program)}
    if packages:
        return f"system tests need what is missing: apt-get install {' '.join(sorted(packages))}"
    return ""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the documentation has and no test runs is told each time."""
    terminalreporter.write_line(f"commands of the documentation that no test runs: {not_run()}")
