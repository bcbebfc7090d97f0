"""Name servers of a tunnel, through resolvconf."""

import re

from wgpy.tools.errors import ToolError
from wgpy.tools.programs import have, run

_ORDER = "/etc/resolvconf/interface-order"


def _record(name: str) -> str:
    """The name of our record, under a prefix that Debian's resolvconf puts first."""
    try:
        with open(_ORDER, encoding="utf-8") as file:
            found = re.search(r"^([A-Za-z0-9-]+)\*$", file.read(), re.MULTILINE)
    except OSError:
        found = None
    return f"{found[1]}.{name}" if found else name


def set_servers(name: str, servers: list[str], search: list[str]) -> None:
    """Make `servers` the only name servers. ToolError without a resolvconf."""
    if not have("resolvconf"):
        raise ToolError(
            f"{name}: DNS needs resolvconf, which is not installed; "
            "install openresolv, or take DNS out of the file"
        )
    lines = [f"nameserver {server}\n" for server in servers]
    if search:
        lines.append(f"search {' '.join(search)}\n")
    run("resolvconf", "-a", _record(name), "-m", "0", "-x", text="".join(lines))


def unset_servers(name: str) -> None:
    """Take them away again."""
    run("resolvconf", "-d", _record(name), "-f")
