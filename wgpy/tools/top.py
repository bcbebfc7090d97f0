"""The command top: interfaces and their peers, live on a terminal, or once as plain text."""

import contextlib
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from wgpy.dataplane import DataPlaneError, get_interface, list_interfaces
from wgpy.tools.arguments import Arguments, seconds
from wgpy.tools.errors import ToolError
from wgpy.tools.toplines import Sample, fit, lines

_STATISTICS = "/sys/class/net/{}/statistics"
_COUNTERS = ("rx_dropped", "rx_errors", "tx_dropped", "tx_errors")
_STATUS_TERMINATED = 143

# Another screen without a cursor, and back to the one before.
_ENTER = "\x1b[?1049h\x1b[?25l"
_LEAVE = "\x1b[?25h\x1b[?1049l"
# From the top left; what was there is overwritten, what is left of a line or below it erased.
_HOME = "\x1b[H"
_END_OF_LINE = "\x1b[K"
_END_OF_SCREEN = "\x1b[J"


def top(arguments: list[str]) -> None:
    """Show the interfaces named, or all of them, until told to stop."""
    parser = Arguments()
    parser.add_argument("interfaces", nargs="*")
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--interval", type=seconds, default=1.0)
    options = parser.parse_args(arguments)
    names: list[str] = options.interfaces
    for name in names:
        # One that is not there when all begins is a mistake; later it is news.
        get_interface(name)
    if options.once or not (sys.stdin.isatty() and sys.stdout.isatty()):
        _once(names, options.interval)
    else:
        _live(names, options.interval)


def _once(names: list[str], interval: float) -> None:
    before = _sample(names)
    time.sleep(interval)
    print("\n".join(lines(before, _sample(names))))


def _live(names: list[str], interval: float) -> None:
    with _screen():
        before = now = _sample(names)
        while True:
            _draw(lines(before, now, os.get_terminal_size().columns), interval)
            if _quit_within(now.at + interval - time.monotonic()):
                return
            before, now = now, _sample(names)


def _sample(names: list[str]) -> Sample:
    found = Sample(time.monotonic(), int(time.time()), {}, {}, {})
    for name in names or list_interfaces():
        try:
            found.interfaces[name] = get_interface(name)
        except DataPlaneError as error:
            found.failures[name] = str(error)
        else:
            found.links[name] = _link_counters(name)
    return found


def _link_counters(name: str) -> dict[str, int]:
    """Nothing for a daemon whose interface is in another network namespace."""
    directory = Path(_STATISTICS.format(name))
    with contextlib.suppress(OSError):
        return {counter: int((directory / counter).read_text()) for counter in _COUNTERS}
    return {}


@contextlib.contextmanager
def _screen() -> Iterator[None]:
    """A screen of our own with keys at once; however it ends, the terminal is as it was."""
    fd = sys.stdin.fileno()
    saved = termios.tcgetattr(fd)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        tty.setcbreak(fd)
        # To be stopped would leave the shell with our screen.
        mode = termios.tcgetattr(fd)
        mode[6][termios.VSUSP] = b"\0"
        termios.tcsetattr(fd, termios.TCSADRAIN, mode)
        sys.stdout.write(_ENTER)
        yield
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        termios.tcsetattr(fd, termios.TCSAFLUSH, saved)


def _draw(found: list[str], interval: float) -> None:
    head = f"wgpy top, every {interval:g} s, q to quit"
    shown = fit([head, "", *found], os.get_terminal_size().lines)
    text = "\r\n".join(line + _END_OF_LINE for line in shown)
    sys.stdout.write(_HOME + text + _END_OF_SCREEN)
    sys.stdout.flush()


def _quit_within(timeout: float) -> bool:
    """Whether `q` is pressed, or the terminal goes away, within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > 0:
        ready, _, _ = select.select([sys.stdin], [], [], left)
        if ready and os.read(sys.stdin.fileno(), 1) in (b"q", b"Q", b""):
            return True
    return False


def _terminated(number: int, frame: FrameType | None) -> None:
    raise ToolError("terminated", _STATUS_TERMINATED)
