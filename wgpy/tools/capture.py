"""The command capture: packets of an interface, inner or outer, as pcapng."""

import contextlib
import os
import select
import stat
import sys
import time
from typing import BinaryIO

from wgpy.dataplane import get_interface
from wgpy.tools.arguments import Arguments, positive, seconds
from wgpy.tools.errors import ToolError, UsageError
from wgpy.tools.packets import PacketSocket, datagrams
from wgpy.tools.pcapng import Writer
from wgpy.uapi.client import KeyReader

# Seconds between two looks at whether it is time to end.
_LOOK = 0.2


def capture(arguments: list[str]) -> None:
    """Capture until told to stop."""
    parser = Arguments()
    parser.add_argument("interface")
    parser.add_argument("--outer", action="store_true")
    parser.add_argument("--keys", action="store_true")
    parser.add_argument("--write", metavar="FILE")
    parser.add_argument("--count", type=positive)
    parser.add_argument("--seconds", type=seconds)
    options = parser.parse_args(arguments)
    if options.keys and not options.outer:
        raise UsageError("--keys: packets inside the tunnel need none; add --outer")
    name: str = options.interface
    # Its port, and an error at once where there is none of this name.
    port = get_interface(name).listen_port if options.outer else None
    if port == 0:
        raise ToolError(f"{name} has no port yet: set it up first")
    if port is None:
        get_interface(name)
    with contextlib.ExitStack() as stack:
        # First of all, so that the packets by which sessions begin are seen.
        packets = PacketSocket(None if options.outer else name, port)
        stack.callback(packets.close)
        out = stack.enter_context(_output(options.write, secret=options.keys))
        keys = KeyReader(name) if options.keys else None
        if keys is not None:
            stack.callback(keys.close)
        until = time.monotonic() + options.seconds if options.seconds else None
        writer = Writer(out)
        with contextlib.suppress(KeyboardInterrupt):
            _run(writer, packets, keys, options.count, until)
        lost = packets.lost()
        also = f"; {lost} came too fast and are missing" if lost else ""
        print(f"{writer.packets} packets{also}", file=sys.stderr)


def _output(path: str | None, *, secret: bool) -> contextlib.AbstractContextManager[BinaryIO]:
    """Where the capture goes: what has keys is for its owner alone."""
    if path is not None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(path, flags, 0o600)
        if secret and os.fstat(fd).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            os.close(fd)
            raise ToolError(f"{path}: others can open it, and it would have keys; remove it first")
        return os.fdopen(fd, "wb")
    if sys.stdout.isatty():
        raise UsageError("packets are nothing for a terminal: --write FILE, or a pipe")
    status = os.fstat(sys.stdout.fileno())
    if secret and stat.S_ISREG(status.st_mode) and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ToolError("standard output: others can open the file; use --write, or umask 077")
    return contextlib.nullcontext(sys.stdout.buffer)


def _run(
    writer: Writer,
    packets: PacketSocket,
    keys: KeyReader | None,
    count: int | None,
    until: float | None,
) -> None:
    writer.flush()
    while (count is None or writer.packets < count) and (until is None or time.monotonic() < until):
        select.select([packets.fileno(), *([keys.fileno()] if keys else [])], [], [], _LOOK)
        # A key is told before its packet leaves: what was seen until now has its keys already.
        seen = list(packets.read())
        if keys is not None and (lines := keys.read()):
            writer.keys(lines)
        for name, at, packet in seen:
            for one in datagrams(packet) if packets.outer else [packet]:
                writer.packet(name, at, one)
        writer.flush()
