"""The commands show and showconf."""

import errno
import os
import sys
import time

from wgpy.dataplane import DataPlaneError, get_interface, list_interfaces
from wgpy.protocol.config import InterfaceStats
from wgpy.tools.errors import UsageError
from wgpy.tools.fields import FIELDS, field_lines, json_object
from wgpy.tools.pretty import Style, interface_text
from wgpy.tools.showconf import config_text


def showconf(name: str) -> None:
    """Print interface `name` as a configuration file."""
    sys.stdout.write(config_text(get_interface(name)))


def show(arguments: list[str]) -> int:
    """Print interfaces in the form that the arguments ask for; the exit status."""
    as_json = "--json" in arguments
    words = [word for word in arguments if word != "--json"]
    which = words[0] if words else "all"
    if as_json and (len(words) > 1 or which == "interfaces"):
        raise UsageError("--json: expected an interface, all or nothing beside it")
    if len(words) > 2 or (which == "interfaces" and len(words) > 1):
        raise UsageError("expected at most an interface and one field")
    if len(words) == 2 and words[1] not in FIELDS:
        raise UsageError(f"{words[1]!r} is not a field (fields: {', '.join(FIELDS)})")
    if which == "interfaces":
        _show_names()
        return 0
    if which != "all":
        _show_found({which: get_interface(which)}, words[1:], as_json, prefixed=False)
        return 0
    found, status = _get_all()
    _show_found(found, words[1:], as_json, prefixed=True)
    return status


def _show_names() -> None:
    if names := list_interfaces():
        print(" ".join(names))


def _get_all() -> tuple[dict[str, InterfaceStats], int]:
    """Every interface that can be read, and 1 if one could not."""
    found: dict[str, InterfaceStats] = {}
    status = 0
    for name in list_interfaces():
        try:
            found[name] = get_interface(name)
        except DataPlaneError as error:
            # One that has gone since it was listed is no failure.
            if error.errno != errno.ENODEV:
                print(f"wgpy: {name}: {error}", file=sys.stderr)
                status = 1
    return found, status


def _show_found(
    found: dict[str, InterfaceStats], field: list[str], as_json: bool, *, prefixed: bool
) -> None:
    if as_json:
        import json

        objects = {name: json_object(stats, _show_keys()) for name, stats in found.items()}
        print(json.dumps(objects, indent=2))
    elif field:
        for name, stats in found.items():
            sys.stdout.writelines(field_lines(stats, field[0], (name,) if prefixed else ()))
    else:
        style = Style(color=_use_color(), show_keys=_show_keys())
        now = int(time.time())
        texts = (interface_text(name, stats, now, style) for name, stats in found.items())
        sys.stdout.write("\n".join(texts))


def _show_keys() -> bool:
    return os.environ.get("WG_HIDE_KEYS") == "never"


def _use_color() -> bool:
    mode = os.environ.get("WG_COLOR_MODE")
    return mode == "always" or (mode != "never" and sys.stdout.isatty())
