"""Write share/man from the commands' own help: `python -m scripts.manpages`."""

import argparse
import re
import textwrap
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from agent import cli as agent_cli
from agent import options as agent_options
from wgpy.tools.commands import COMMANDS
from wgpy.tools.helptext import general_help

ROOT = Path(__file__).resolve().parent.parent
_FILES = (
    ("/etc/wireguard/NAME.conf", "What wgpy up reads, in the format of wg-quick(8)."),
    ("/var/run/wireguard/NAME.sock", "The daemon's socket. It ends when this is deleted."),
)
_ENVIRONMENT = (
    ("WG_PROCESS_FOREGROUND", "1: stay in the foreground."),
    ("WG_TUN_FD, WG_UAPI_FD", "Descriptors to use instead of making a TUN and a socket."),
    ("LOG_LEVEL", "silent, error (the default), info, verbose or debug."),
    ("WG_HIDE_KEYS", "never: show keys."),
    ("WG_COLOR_MODE", "always, never or auto."),
)


def main() -> None:
    """Write both pages."""
    for path, text in pages().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def pages() -> dict[Path, str]:
    """Each page's place and text."""
    man = ROOT / "share" / "man"
    return {
        man / "man1" / "wgpy.1": "\n".join(_wgpy()) + "\n",
        man / "man8" / "wgpy-agent.8": "\n".join(_agent()) + "\n",
    }


def _wgpy() -> Iterator[str]:
    yield from _head("wgpy", 1, "WireGuard in userspace, and tools for all its interfaces")
    yield from (".Nm", ".Op Ar option ...", ".Op Fl \\&-", ".Ar interface", ".Nm")
    yield from (".Ar command", ".Op Ar argument ...", ".Sh DESCRIPTION")
    yield _prose(
        "Runs a WireGuard interface in userspace until its socket is deleted or SIGTERM comes, and "
        "returns when it is ready; or does what a command says, for interfaces of the kernel as "
        "well. The arguments and files of commands are those of wg(8) and wg-quick(8)."
    )
    yield from _list("", _entries(general_help(""), COMMANDS))
    yield ".Sh COMMANDS"
    for name, command in COMMANDS.items():
        yield f".Ss {name}"
        yield from (".Bd -unfilled", _text(f"wgpy {name} {command.usage}".rstrip()), ".Ed", ".Pp")
        yield _prose(
            f"{command.summary[0].upper()}{command.summary[1:]}. {command.details}".strip()
        )
        yield from (".Bd -literal -offset indent", *map(_text, command.examples), ".Ed")
    yield from _list("ENVIRONMENT", _ENVIRONMENT)
    yield from _list("FILES", _FILES)
    yield from (".Sh EXIT STATUS", "0, or 1 with one line on standard error.")
    yield from (".Sh SEE ALSO", ".Xr wg 8 ,", ".Xr wg-quick 8 ,", ".Xr wgpy-agent 8")


def _agent() -> Iterator[str]:
    yield from _head("wgpy-agent", 8, "encrypts all traffic between the nodes of a cluster")
    yield from (".Nm", ".Ar command", ".Op Ar option ...", ".Sh DESCRIPTION")
    yield _prose(
        "Runs on each node of a Kubernetes cluster, in the DaemonSets wgpy-agent and "
        "wgpy-dataplane, and answers questions about its node."
    )
    yield from _list("COMMANDS", _entries(agent_cli.USAGE))
    parser = agent_options.parser_of({})
    yield from _list("OPTIONS OF run AND doctor", map(_option, parser._actions))
    yield from (".Sh SEE ALSO", ".Xr wgpy 1")


def _option(action: argparse.Action) -> tuple[str, str]:
    value = action.metavar or ("|".join(map(str, action.choices)) if action.choices else None)
    if value is None and action.nargs != 0:
        value = action.dest.upper()
    told = action.default in (None, "", [], argparse.SUPPRESS)
    default = "" if told else f" ({action.default})"
    names = ", ".join(action.option_strings)
    text = f"{action.help}{default}"
    return f"{names} {value}" if value else names, f"{text[0].upper()}{text[1:]}."


def _entries(text: str, elsewhere: Container[str] = ()) -> Iterator[tuple[str, str]]:
    """Of a help text: lines of two columns, and what belongs to them."""
    for entry in re.finditer(r"^  (\S.*?)  +(\S.*(?:\n {10,}\S.*)*)", text, re.MULTILINE):
        if entry[1] not in elsewhere:
            yield entry[1], re.sub(r"\s+", " ", entry[2])


def _head(name: str, section: int, what: str) -> Iterator[str]:
    yield '.\\" Written by scripts/manpages.py.'
    yield from (".Dd November 27, 2026", f".Dt {name.upper()} {section}", ".Os wgpy")
    yield from (".Sh NAME", f".Nm {name}", f".Nd {what}", ".Sh SYNOPSIS")


def _list(title: str, items: Iterable[tuple[str, str]]) -> Iterator[str]:
    if title:
        yield f".Sh {title}"
    yield ".Bl -tag -width Ds"
    for term, text in items:
        yield from (f".It {_text(term)}", _prose(text))
    yield ".El"


def _prose(text: str) -> str:
    """Each sentence on a line of its own, so that roff knows where it ends."""
    sentences = re.split(r"(?<=[.:;]) +(?=[A-Z(`'])|\n", text)
    return "\n".join(_text(line) for one in sentences for line in textwrap.wrap(one, 76))


def _text(text: str) -> str:
    """Words that roff takes as they are."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join(f"\\&{line}" if line[:1] in ".'" else line for line in escaped.split("\n"))


if __name__ == "__main__":
    main()
