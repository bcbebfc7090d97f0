"""The text of `wgpy --help` and of `wgpy COMMAND --help`."""

import textwrap

from wgpy.tools.commands import COMMANDS

_DAEMON = """\
Run interface IFACE in userspace until its socket is deleted or SIGTERM comes; returns when it is
ready. WG_TUN_FD, WG_UAPI_FD, WG_PROCESS_FOREGROUND=1 and LOG_LEVEL (silent, error, verbose) mean
what they mean to wireguard-go. An interface named like a command: wgpy -- NAME.

Options:
  -f, --foreground    stay in the foreground
  --no-tun-offloads   take and give single packets at the TUN
  --no-uso            no UDP segmentation at the TUN
  --no-udp-gso        no segmentation of datagrams by the kernel
  --no-udp-gro        no joining of datagrams by the kernel
  --no-recvmmsg       no receiving of many datagrams in one call, where the kernel joins none
  --no-sendmmsg       no sending of many datagrams in one call, where the kernel cuts none
  --no-multibuffer    no cipher for whole batches (libipsec-mb1), but OpenSSL packet by packet
  --workers N         carry packets in N processes (1); worth it with as many free processors
  --keylog FILE       DANGER: write all keys to FILE, as Wireshark's wg.keylog_file wants them.
                      Who reads it reads all traffic and can pose as this interface. Tests only.
  -V, --version       print the version\
"""
_EXAMPLES = (
    "wgpy wg0",
    "WG_QUICK_USERSPACE_IMPLEMENTATION=wgpy wg-quick up wg0",
    "wgpy up wg0",
    "wgpy show",
)


def general_help(daemon_usage: str) -> str:
    """What wgpy is, every command in a line, examples."""
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:{width}}  {c.summary}" for name, c in COMMANDS.items())
    return (
        f"usage: {daemon_usage}\n       wgpy COMMAND [ARGUMENT]...\n\n{_DAEMON}\n\n"
        f"Commands:\n{commands}\n\n`wgpy COMMAND --help` tells more.\n\n{_examples(_EXAMPLES)}\n\n"
        "Exit status: 0, or 1 with one line on standard error."
    )


def command_help(name: str) -> str:
    """Usage, meaning and examples of one command."""
    command = COMMANDS[name]
    usage = textwrap.fill(
        f"usage: wgpy {name} {command.usage}".rstrip(),
        width=96,
        subsequent_indent=" " * 12,
        break_long_words=False,
        break_on_hyphens=False,
    )
    summary = command.summary[0].upper() + command.summary[1:] + "."
    parts = [usage, summary, command.details, _examples(command.examples)]
    return "\n\n".join(part for part in parts if part)


def _examples(lines: tuple[str, ...]) -> str:
    return "Examples:\n" + "\n".join(f"  {line}" for line in lines)
