"""The process behind `wgpy IFACE`: a device, its UAPI socket, and signals.

The environment is that of other userspace implementations, so wg-quick can start it unchanged:
WG_PROCESS_FOREGROUND, LOG_LEVEL, WG_TUN_FD, WG_UAPI_FD.
"""

import asyncio
import gc
import logging
import logging.handlers
import os
import signal
import socket
import sys
from collections.abc import Coroutine
from pathlib import Path

import uvloop

from tun import Tun
from wgpy.device.daemonise import Parent, fork, leave_terminal
from wgpy.device.device import Device
from wgpy.device.options import DeviceOptions
from wgpy.harden import harden
from wgpy.uapi import listener
from wgpy.uapi.paths import socket_path
from wgpy.uapi.server import UapiServer

_log = logging.getLogger("wgpy.device")

# LOG_LEVEL as wireguard-go knows it, and Python's own names.
_LEVELS = {
    "silent": logging.CRITICAL + 1,
    "error": logging.WARNING,
    "info": logging.INFO,
    "verbose": logging.DEBUG,
    "debug": logging.DEBUG,
}
_SYSLOG = "/dev/log"
# Allocations before a collection of the youngest, and of how many of those one of the older.
_COLLECT_AFTER = (50_000, 50, 100)


def main(interface: str, *, foreground: bool, options: DeviceOptions) -> int:
    """Run interface `interface` until it is told to end; the exit status."""
    parent = None
    if not (foreground or os.environ.get("WG_PROCESS_FOREGROUND") == "1"):
        parent = fork()
    try:
        _start_logging(interface, to_syslog=False)
        harden()
        uapi, tun = _inherited("WG_UAPI_FD"), _inherited("WG_TUN_FD")
        return uvloop.run(_serve(interface, uapi, tun, options, parent))
    except (OSError, ValueError) as error:
        print(f"wgpy: {interface}: {_describe(error)}", file=sys.stderr)
        return 1


def _describe(error: OSError | ValueError) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}"
    return str(error)


def _inherited(variable: str) -> int | None:
    """The descriptor that an environment variable names. Raises ValueError."""
    text = os.environ.get(variable)
    if not text:
        return None
    if not text.isdecimal():
        raise ValueError(f"{variable}={text!r} is not the number of a file descriptor")
    os.set_inheritable(int(text), False)
    return int(text)


async def _serve(
    interface: str,
    uapi_fd: int | None,
    tun_fd: int | None,
    options: DeviceOptions,
    parent: Parent | None,
) -> int:
    """The socket comes first: it tells whether the name is already served by another process."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    listening, path = _listen(interface, uapi_fd)
    try:
        device = _open_device(interface, tun_fd, options)
    except BaseException:
        listening.close()
        if uapi_fd is None and path is not None:
            path.unlink()
        raise
    with device:
        server = UapiServer(listening, path, device, ended.set)
        try:
            await server.start()
            if parent is not None:
                _detach(interface, parent)
            _log.info("%s is ready", interface)
            _spare_the_collector()
            await _first(ended.wait(), device.wait_closed())
        finally:
            await server.close()
    _log.info("%s has ended", interface)
    return 0


def _listen(interface: str, fd: int | None) -> tuple[socket.socket, Path | None]:
    if fd is None:
        return listener.listen(interface), socket_path(interface)
    return listener.from_fd(fd)


def _open_device(interface: str, fd: int | None, options: DeviceOptions) -> Device:
    if fd is None:
        return Device.open(interface, options)
    if options.workers > 1:
        raise ValueError("--workers needs an interface that is made here, not WG_TUN_FD")
    return Device(Tun.from_fd(fd, offloads=options.tun_offloads, uso=options.uso), options)


async def _first(*waits: Coroutine[object, object, object]) -> None:
    """Return when one of them does."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


def _spare_the_collector() -> None:
    """What was imported stays for good, and 10,000 peers should not be searched every second."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


def _detach(interface: str, parent: Parent) -> None:
    keep = os.environ.get("LOG_LEVEL", "") in ("verbose", "debug")
    leave_terminal(keep_output=keep)
    if not keep:
        _start_logging(interface, to_syslog=True)
    parent.ready()


def _start_logging(interface: str, *, to_syslog: bool) -> None:
    """To the terminal, or once that is left to syslog where there is one."""
    text = os.environ.get("LOG_LEVEL") or "error"
    if text not in _LEVELS:
        raise ValueError(f"LOG_LEVEL={text!r} is not one of {', '.join(_LEVELS)}")
    handler: logging.Handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"%(asctime)s wgpy {interface}: %(message)s"))
    if to_syslog and os.path.exists(_SYSLOG):
        handler = logging.handlers.SysLogHandler(_SYSLOG)
        handler.setFormatter(logging.Formatter(f"wgpy[%(process)d]: {interface}: %(message)s"))
    elif to_syslog:
        handler = logging.NullHandler()
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(_LEVELS[text])
