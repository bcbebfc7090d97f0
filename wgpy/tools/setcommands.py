"""The commands set, setconf, addconf and syncconf: the file or the arguments first, wholly."""

from wgpy.dataplane import get_interface, set_interface
from wgpy.tools.conffile import parse_config, read_lines
from wgpy.tools.errors import UsageError
from wgpy.tools.setargs import parse_set


def set_arguments(arguments: list[str]) -> None:
    """Change an interface as arguments say."""
    if len(arguments) < 2:
        raise UsageError("expected an interface and settings")
    set_interface(arguments[0], parse_set(arguments[1:]))


def setconf(name: str, path: str) -> None:
    """Make `path` the whole configuration of interface `name`."""
    set_interface(name, parse_config(read_lines(path), path))


def addconf(name: str, path: str) -> None:
    """Add what `path` says to interface `name`."""
    set_interface(name, parse_config(read_lines(path), path, append=True))


def syncconf(name: str, path: str) -> None:
    """Make `path` the whole configuration, sessions of peers that stay left alone."""
    from wgpy.dataplane.diff import diff

    desired = parse_config(read_lines(path), path)
    set_interface(name, diff(get_interface(name), desired))
