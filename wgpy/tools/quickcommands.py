"""The commands up, down, save and strip."""

import os
import signal
import sys
from types import FrameType

from wgpy.tools import quickconf
from wgpy.tools.errors import ToolError

_STATUS_TERMINATED = 143


def up(config: str) -> None:
    """Make an interface from its file."""
    _need_root("up")
    from wgpy.tools import quick

    # To be ended in the middle undoes what was made, as a failure does.
    signal.signal(signal.SIGTERM, _terminated)
    quick.up(quickconf.load(config))


def down(config: str) -> None:
    """Take an interface down."""
    _need_root("down")
    from wgpy.tools import quick

    quick.down(quickconf.load(config))


def save(config: str) -> None:
    """Write an interface's state into its file."""
    _need_root("save")
    from wgpy.tools import quick

    quick.save(quickconf.load(config))


def strip(config: str) -> None:
    """Print what setconf understands of a file."""
    sys.stdout.buffer.write(quickconf.strip(config).encode("utf-8", "surrogateescape"))


def _terminated(number: int, frame: FrameType | None) -> None:
    raise ToolError("terminated", _STATUS_TERMINATED)


def _need_root(command: str) -> None:
    if os.geteuid():
        raise ToolError(f"{command}: needs root; run it with sudo")
