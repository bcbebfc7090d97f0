"""argparse for commands that have options: a mistake is a UsageError, as for all commands."""

import argparse
from typing import NoReturn

from wgpy.tools.errors import UsageError


class Arguments(argparse.ArgumentParser):
    """A parser of one command's arguments; help comes from the command table."""

    def __init__(self) -> None:
        super().__init__(add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raises UsageError, where argparse would end the process."""
        raise UsageError(message)


def positive(text: str) -> int:
    """A type for argparse: a whole number from 1."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def seconds(text: str) -> float:
    """A type for argparse: a number of seconds from 0.1 up to a year, as in 0.5."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0.1 <= found <= 365 * 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1")
    return found
