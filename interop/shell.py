"""Run a command; a failure says which one, and what it printed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class CommandFailed(RuntimeError):
    """A command of the suite ended with an error (the message holds its output)."""


class ScenarioFailed(AssertionError):
    """The implementations did not do what the scenario asks for."""


def run(*argv: str, stdin: str | None = None, timeout: float = 60) -> str:
    """Run `argv`, return what it wrote to standard output.

    :raises CommandFailed: it could not be started, failed or took longer than `timeout` s.
    """
    try:
        done = subprocess.run(
            argv, input=stdin or "", capture_output=True, text=True, timeout=timeout
        )
    except OSError as error:
        raise CommandFailed(f"{argv[0]}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"{' '.join(argv)}: still running after {timeout:.0f} s") from None
    if done.returncode:
        words = (done.stderr or done.stdout).strip()
        raise CommandFailed(f"{' '.join(argv)}: exit status {done.returncode}: {words[-2000:]}")
    return done.stdout


def wait_until(what: str, condition: Callable[[], T], timeout: float, every: float = 0.05) -> T:
    """Poll `condition` until it returns something true, and return that.

    :raises ScenarioFailed: not within `timeout` s; the message names `what`.
    """
    deadline = time.monotonic() + timeout
    while True:
        if result := condition():
            return result
        if time.monotonic() > deadline:
            raise ScenarioFailed(f"not within {timeout:.0f} s: {what}")
        time.sleep(every)


def expect(condition: object, what: str) -> None:
    """:raises ScenarioFailed: unless `condition` is true."""
    if not condition:
        raise ScenarioFailed(what)
