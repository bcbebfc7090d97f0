"""Commands, processes and patience, all of them with an end."""

import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

Child = subprocess.Popen[bytes]

_COMMAND_TIMEOUT = 60.0
_END_TIMEOUT = 10.0
_POLL = 0.1


class DemoError(Exception):
    """What was not there, or was not seen."""


class Ended(Exception):
    """A signal asked for the end."""


class Patience:
    """Waits for what is to happen, unless a signal comes first."""

    def __init__(self) -> None:
        self._ended = threading.Event()

    def end(self) -> None:
        """Whoever waits, now or later, is told by Ended."""
        self._ended.set()

    def pause(self, seconds: float) -> None:
        """Ended."""
        if self._ended.wait(seconds):
            raise Ended

    def wait_until(self, what: str, condition: Callable[[], Any], seconds: float) -> None:
        """DemoError naming `what` if it is not so within `seconds`; Ended."""
        deadline = time.monotonic() + seconds
        self.pause(0)
        while not condition():
            if time.monotonic() > deadline:
                raise DemoError(f"not within {seconds:.0f} s: {what}")
            self.pause(_POLL)


def run(argv: Sequence[str], stdin: str = "") -> str:
    """What a command wrote. DemoError with what it said if it fails."""
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=_COMMAND_TIMEOUT,
            # A Ctrl-C is for the demo, which then cleans up.
            start_new_session=True,
        )
    except OSError as error:
        raise DemoError(f"{argv[0]}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise DemoError(f"{' '.join(argv)}: no end after {_COMMAND_TIMEOUT:.0f} s") from None
    if done.returncode:
        said = (done.stdout + done.stderr).strip()
        raise DemoError(f"{' '.join(argv)}: {said or f'exit status {done.returncode}'}")
    return done.stdout


def stop(child: Child) -> None:
    """SIGTERM, and SIGKILL when that is not enough."""
    child.terminate()
    try:
        child.wait(_END_TIMEOUT)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
