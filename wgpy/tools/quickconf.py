"""Configuration files of wg-quick(8): what it adds to the [Interface] of wg(8)."""

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import TypeAlias

from wgpy.protocol.config import Endpoint, InterfaceChange
from wgpy.tools.conffile import QUICK_KEYS, Line, parse_config, read_lines
from wgpy.tools.errors import ToolError
from wgpy.tools.resolve import resolve_endpoint
from wgpy.tools.values import split_endpoint

_DIRECTORY = "/etc/wireguard"
_NAME = r"[a-zA-Z0-9_=+.-]{1,15}"
_TABLES = {"local": 255, "main": 254, "default": 253}
_MTU_MAX = 2**31 - 1
_TABLE_MAX = 2**32 - 1

Address: TypeAlias = IPv4Interface | IPv6Interface


@dataclass(slots=True)
class QuickConfig:
    """One file: wg-quick's settings in fields, wg's as the lines that are left."""

    path: str
    name: str
    addresses: list[Address] = field(default_factory=list)
    # None: as the routes to the endpoints have it.
    mtu: int | None = None
    dns: list[str] = field(default_factory=list)
    dns_search: list[str] = field(default_factory=list)
    # As written: a number, `off`, `auto`, or nothing for `auto`.
    table: str = ""
    pre_up: list[str] = field(default_factory=list)
    post_up: list[str] = field(default_factory=list)
    pre_down: list[str] = field(default_factory=list)
    post_down: list[str] = field(default_factory=list)
    save: bool = False
    lines: list[Line] = field(default_factory=list)

    @property
    def auto_table(self) -> bool:
        """Whether routes go where they belong, a default route with rules around it."""
        return self.table in ("", "auto")

    @property
    def table_number(self) -> int:
        """The table that is named; only if it is neither `off` nor `auto`."""
        return _TABLES.get(self.table) or int(self.table)

    def check(self) -> None:
        """Refuse what setconf would refuse, without asking for names. ToolError."""

        def resolve(text: str) -> Endpoint:
            split_endpoint(text)
            return Endpoint("", 0)

        parse_config(self.lines, self.path, resolve=resolve, quiet=True)

    def change(self) -> InterfaceChange:
        """What to set the interface to; looks up names of endpoints. ToolError."""
        return parse_config(self.lines, self.path, resolve=resolve_endpoint)


def load(config: str) -> QuickConfig:
    """Read an interface's file, or the file at a path. ToolError with file and line.

    Warns on standard error if everybody may read the file.
    """
    path, name = _locate(config)
    found = QuickConfig(path, name)
    settings, found.lines = _split(read_lines(path))
    setters = _setters(found)
    for number, key, value in settings:
        try:
            setters[key](value)
        except ValueError as error:
            raise ToolError(f"{path}:{number}: {error}") from None
    found.check()
    return found


def strip(config: str) -> str:
    """The text of `wg-quick strip`: the file without wg-quick's settings, right or wrong.

    Nothing is checked: had this an empty output for a mistake, a syncconf fed with it would take
    all peers away instead of refusing it.
    """
    path, _ = _locate(config)
    _, lines = _split(read_lines(path))
    return "".join(f"{line}\n" for _, line in lines) + "\n"


def _locate(config: str) -> tuple[str, str]:
    """The real path of a file and the interface it is for."""
    path = f"{_DIRECTORY}/{config}.conf" if re.fullmatch(_NAME, config) else config
    named = re.fullmatch(rf"(?:.*/)?({_NAME})\.conf", path, re.DOTALL)
    if not os.path.exists(path):
        raise ToolError(f"{path}: does not exist; give an interface or the path of a NAME.conf")
    if named is None:
        raise ToolError(f"{path}: expected an interface's name (1 to 15 characters) before .conf")
    path = os.path.realpath(path)
    try:
        readable = os.stat(path).st_mode & os.stat(os.path.dirname(path)).st_mode & 0o007
    except OSError as error:
        raise ToolError(f"{path}: {error.strerror}") from None
    if readable:
        print(f"wgpy: warning: {path} is world accessible; chmod 600 it", file=sys.stderr)
    return path, named[1]


def _split(lines: list[Line]) -> tuple[list[tuple[int, str, str]], list[Line]]:
    """wg-quick's settings (line number, key in lower case, value), and the lines that are left."""
    if lines and not lines[-1][1]:
        # What follows the last line end is no line.
        lines = lines[:-1]
    settings: list[tuple[int, str, str]] = []
    left: list[Line] = []
    in_interface = False
    for number, text in lines:
        line = text.strip(" \t")
        key, equals, value = line.partition("#")[0].partition("=")
        key = key.strip().lower()
        if key.startswith("["):
            in_interface = key == "[interface]"
        if in_interface and equals and key in QUICK_KEYS:
            settings.append((number, key, value.strip()))
        else:
            left.append((number, line))
    return settings, left


def _setters(config: QuickConfig) -> dict[str, Callable[[str], None]]:
    def address(value: str) -> None:
        config.addresses += map(_parse_address, value.replace(",", " ").split())

    def mtu(value: str) -> None:
        if not value.isdecimal() or not 0 < int(value) <= _MTU_MAX:
            raise ValueError(f"MTU: expected a number of bytes, found {value!r}")
        config.mtu = int(value)

    def dns(value: str) -> None:
        for word in value.replace(",", " ").split():
            is_server = re.fullmatch(r"[0-9.]+|.*:.*", word)
            (config.dns if is_server else config.dns_search).append(word)

    def table(value: str) -> None:
        numeric = value.isdecimal() and 0 < int(value) <= _TABLE_MAX
        if not numeric and value not in ("off", "auto", "", *_TABLES):
            raise ValueError(f"Table: expected off, auto or a number, found {value!r}")
        config.table = value

    def save_config(value: str) -> None:
        if value.lower() not in ("true", "false"):
            raise ValueError(f"SaveConfig: expected true or false, found {value!r}")
        config.save = value.lower() == "true"

    return {
        "address": address,
        "mtu": mtu,
        "dns": dns,
        "table": table,
        "preup": config.pre_up.append,
        "postup": config.post_up.append,
        "predown": config.pre_down.append,
        "postdown": config.post_down.append,
        "saveconfig": save_config,
    }


def _parse_address(text: str) -> Address:
    try:
        return ip_interface(text)
    except ValueError:
        raise ValueError(f"Address: expected ADDRESS or ADDRESS/LENGTH, found {text!r}") from None
