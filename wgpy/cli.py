"""The command `wgpy`: argv and wiring only. Every command imports what it needs, no more."""

import os
import sys
from collections.abc import Callable
from importlib import import_module

from wgpy.tools.commands import COMMANDS, Command
from wgpy.tools.errors import ToolError, UsageError

_DAEMON_USAGE = "wgpy [OPTION]... [--] IFACE"
_DAEMON_FLAGS = {
    "--no-tun-offloads": "tun_offloads",
    "--no-uso": "uso",
    "--no-udp-gso": "udp_gso",
    "--no-udp-gro": "udp_gro",
    "--no-recvmmsg": "recvmmsg",
    "--no-sendmmsg": "sendmmsg",
    "--no-multibuffer": "multibuffer",
}
# TUN queues that the kernel allows are more; a receiver index tells 256 owners apart.
_MAX_WORKERS = 64
# As a shell reports a process that SIGPIPE or SIGINT has ended.
_STATUS_PIPE = 141
_STATUS_INTERRUPT = 130


def main(argv: list[str] | None = None) -> int:
    """Run the command in `argv` (without the program's name); the exit status."""
    try:
        status = _run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The reader has left. What is buffered still must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _STATUS_PIPE
    except KeyboardInterrupt:
        return _STATUS_INTERRUPT
    except ToolError as error:
        print(f"wgpy: {error}", file=sys.stderr)
        return error.status
    except OSError as error:
        print(f"wgpy: {_os_error_text(error)}", file=sys.stderr)
        return 1


def _os_error_text(error: OSError) -> str:
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _run(arguments: list[str]) -> int:
    if not arguments:
        raise UsageError(f"expected a command or an interface (usage: {_DAEMON_USAGE}, wgpy help)")
    first, *rest = arguments
    if first in ("-h", "--help", "help"):
        return _help(rest)
    if first in ("-V", "--version"):
        return _version()
    if first in COMMANDS:
        return _command(first, COMMANDS[first], rest)
    return _daemon(arguments)


def _command(name: str, command: Command, arguments: list[str]) -> int:
    if arguments and arguments[0] in ("-h", "--help"):
        return _help([name])
    try:
        if command.arity is not None and len(arguments) != command.arity:
            expected = command.usage or "no arguments"
            raise UsageError(f"expected {expected}, found {len(arguments)} arguments")
        run = _load(command.run)
        status = run(arguments) if command.arity is None else run(*arguments)
    except UsageError as error:
        # One line for the mistake; the usage line follows where it helps to correct it.
        usage = f"wgpy {name} {command.usage}".rstrip()
        raise ToolError(f"{name}: {error} (usage: {usage})") from None
    return int(status or 0)


def _load(where: str) -> Callable[..., int | None]:
    module, _, function = where.partition(":")
    found: Callable[..., int | None] = getattr(import_module(f"wgpy.tools.{module}"), function)
    return found


def _daemon(arguments: list[str]) -> int:
    foreground = False
    switched_off: list[str] = []
    workers = 1
    key_log: str | None = None
    words = list(arguments)
    while words and words[0].startswith("-"):
        word = words.pop(0)
        if word == "--":
            break
        if word in ("-f", "--foreground"):
            foreground = True
        elif word in _DAEMON_FLAGS:
            switched_off.append(_DAEMON_FLAGS[word])
        elif word == "--workers" or word.startswith("--workers="):
            workers = _workers(word.partition("=")[2] or (words.pop(0) if words else ""))
        elif word == "--keylog" or word.startswith("--keylog="):
            key_log = _key_log(word.partition("=")[2] or (words.pop(0) if words else ""))
        else:
            raise UsageError(f"{word}: this option is not known (usage: {_DAEMON_USAGE})")
    if len(words) != 1:
        what = f"{words[0]!r} is not a command" if words else "expected an interface"
        raise UsageError(f"{what} (usage: {_DAEMON_USAGE}; commands: wgpy help)")
    from wgpy.device import daemon
    from wgpy.device.options import DeviceOptions

    options = DeviceOptions(workers=workers, key_log=key_log, **dict.fromkeys(switched_off, False))
    return daemon.main(words[0], foreground=foreground, options=options)


def _workers(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= _MAX_WORKERS):
        raise UsageError(f"--workers: {text!r} is not a number from 1 to {_MAX_WORKERS}")
    return int(text)


def _key_log(text: str) -> str:
    if not text:
        raise UsageError("--keylog: expected the file to write keys to")
    return os.path.abspath(text)


def _version() -> int:
    from wgpy import __version__

    print(f"wgpy {__version__}")
    return 0


def _help(words: list[str]) -> int:
    from wgpy.tools.helptext import command_help, general_help

    if words and words[0] not in COMMANDS:
        raise UsageError(f"{words[0]!r} is not a command (see wgpy help)")
    print(command_help(words[0]) if words else general_help(_DAEMON_USAGE))
    return 0
