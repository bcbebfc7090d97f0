"""`wgpy-agent demo`: argv, signals, and the end of everything that was made."""

import argparse
import os
import shutil
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from agent.demo.shell import DemoError, Ended, Patience
from agent.demo.show import Live, Plain, write_svg
from agent.demo.state import Machine, State
from agent.demo.story import Story

_LEAST, _MOST = 3, 6
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# What nodes and pods are made of, apart from the CNI plugins.
_COMMANDS = {"ip": "iproute2", "nsenter": "util-linux", "setpriv": "util-linux"}
_UNUSABLE = 1


def run(argv: list[str]) -> int:
    """Play it; 0 if all was seen, 1 if not, 128 + n after signal n."""
    options = _parse(argv)
    if missing := _missing():
        print(f"wgpy-agent: demo: {missing}", file=sys.stderr)
        return _UNUSABLE
    patience, came = Patience(), []

    def end(number: int, frame: object) -> None:
        came.append(number)
        patience.end()

    # Nothing is interrupted: who waits looks whether a signal came.
    for one in _SIGNALS:
        signal.signal(one, end)
    state = State()
    for number in range(1, options.nodes + 1):
        state.machines[number] = Machine(f"node-{number}", f"198.18.0.{10 + number}")
    show = Plain(state) if options.plain or not Live.fits(options.nodes) else Live(state)
    with tempfile.TemporaryDirectory(prefix="wgpy-demo-") as directory, show:
        failure = _play(state, patience, Path(directory), show)
    if came:
        return 128 + came[0]
    for line in failure:
        print(line, file=sys.stderr)
    if options.svg and not failure:
        write_svg(state, options.svg)
    return 1 if failure else 0


def _play(state: State, patience: Patience, directory: Path, show: Plain | Live) -> list[str]:
    """What was not seen, and what logs say about it; nothing: all was."""
    with ExitStack() as stack:
        story = None
        try:
            story = Story(state, patience, directory, show.tell, stack)
            story.play()
        except Ended:
            return []
        except DemoError as error:
            complaints = story.complaints if story else []
            return [f"wgpy-agent: demo: {error}", *complaints]
    state.verdict = "all of it was seen; namespaces, processes and files are gone again"
    show.end()
    return []


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="wgpy-agent demo",
        description="A cluster on this machine: nodes and pods as network namespaces, the agent on "
        "each node, new keys under traffic, a node lost and back. It takes about a minute.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--nodes", type=_count, default=3, metavar="N", help=f"{_LEAST} to {_MOST}; 3 by default")
    add("--plain", action="store_true", help="lines of text, as where there is no terminal")
    add("--svg", type=Path, metavar="FILE", help="the last screen as a picture")
    return parser.parse_args(argv)


def _count(text: str) -> int:
    if not text.isdecimal() or not _LEAST <= int(text) <= _MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from {_LEAST} to {_MOST}")
    return int(text)


def _missing() -> str:
    """What keeps it from being played, and what to do about it."""
    if os.geteuid() != 0:
        return "root is needed, to make network namespaces and TUN interfaces"
    if not Path("/dev/net/tun").is_char_device():
        return "/dev/net/tun is missing: modprobe tun, or pass the device into the container"
    for command, package in _COMMANDS.items():
        if shutil.which(command) is None:
            return f"{command} is missing: apt-get install {package}"
    return ""
