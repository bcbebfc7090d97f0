"""What an agent is told when it starts."""

import argparse
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, TypeVar, get_args

from agent.backend import Choice
from agent.control import SOCKET as CONTROL_SOCKET
from agent.launcher import SOCKET as LAUNCHER_SOCKET
from agent.log import LEVELS
from agent.network.cni import DIRECTORY as CNI_DIRECTORY
from agent.network.sysctls import PROC_SYS
from wgpy.protocol.config import Network

T = TypeVar("T")
_PORT = 51871
_LISTEN = "127.0.0.1:51870"
# `--overlay`'s word for what kubeadm was told.
_KUBEADM = "kubeadm"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# A rotation takes a minute or two; two in a row must not meet.
_LEAST_ROTATION = 600
_KEEPALIVES = (5, 60)


@dataclass(frozen=True, slots=True)
class Options:
    """Of `wgpy-agent run`."""

    node: str
    dataplane: Choice
    # UDP, of lane 0 and lane 1.
    ports: tuple[int, int]
    # The cluster's pod ranges; those of the Nodes themselves are always among them.
    overlay: tuple[Network, ...]
    # Ask kubeadm's ConfigMap for more of them.
    overlay_from_kubeadm: bool
    # Seconds between rotations; None: at start and on demand only.
    rotate_every: float | None
    # Seconds, of who sends on a lane.
    keepalive: int
    # Seconds between two looks at everything when nothing happens.
    resync: float
    listen: tuple[str, int]
    kubeconfig: Path | None
    # None: daemons are started by the agent itself, and end with it.
    launcher: Path | None
    control: Path
    cni_directory: Path
    proc_sys: Path
    log_level: str


def parse(argv: list[str], environ: Mapping[str, str]) -> Options:
    """SystemExit(2), with what is wrong on stderr, or SystemExit(0) for --help."""
    parser = parser_of(environ)
    told = parser.parse_args(argv)
    if not told.node:
        parser.error("no node name: give --node, or set NODE_NAME (from spec.nodeName)")
    overlay = [one for one in told.overlay if one != _KUBEADM]
    return Options(
        node=told.node,
        dataplane=told.dataplane,
        ports=(told.port, told.port + 1),
        overlay=tuple(dict.fromkeys(overlay)),
        overlay_from_kubeadm=_KUBEADM in told.overlay,
        rotate_every=told.rotate_every,
        keepalive=told.keepalive,
        resync=told.resync,
        listen=told.listen,
        kubeconfig=told.kubeconfig,
        launcher=None if told.launcher == Path() else told.launcher,
        control=told.control,
        cni_directory=told.cni_directory,
        proc_sys=told.proc_sys,
        log_level=told.log_level,
    )


def parser_of(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    """What knows all options, and the help on them."""
    parser = argparse.ArgumentParser(
        prog="wgpy-agent run",
        description="Encrypt all traffic between the pods of this node and those of others.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--node", default=environ.get("NODE_NAME", ""), help="name of this node in Kubernetes")
    add("--dataplane", choices=get_args(Choice), default="auto", help="what carries the packets")
    add(
        "--port", type=_type(_lane_port), default=_PORT, help="UDP port of lane 0; lane 1: the next"
    )
    add(
        "--overlay",
        type=_type(_overlay),
        action="append",
        default=[],
        metavar="CIDR",
        help=f"a pod range of the cluster, or '{_KUBEADM}' for what kubeadm was told; repeatable",
    )
    add("--rotate-every", type=_type(_rotation), metavar="TIME", help="new keys that often: 24h")
    add(
        "--keepalive",
        type=_type(_keepalive),
        default="25s",
        metavar="TIME",
        help="between nodes; a rotation takes two to four of them, so the same on all nodes",
    )
    add("--resync", type=_type(_duration), default="60s", help="look at everything that often")
    add("--listen", type=_type(_listen), default=_LISTEN, help="of health checks and metrics")
    add("--kubeconfig", type=Path, help="instead of the pod's ServiceAccount")
    add(
        "--launcher",
        type=Path,
        default=LAUNCHER_SOCKET,
        help="socket of `wgpy-agent dataplane`; empty: daemons end with the agent",
    )
    add("--control", type=Path, default=CONTROL_SOCKET, help="socket for status and rotate")
    add("--cni-directory", type=Path, default=CNI_DIRECTORY, help="of the container runtime")
    add("--proc-sys", type=Path, default=PROC_SYS, help="the host's /proc/sys, writable")
    add("--log-level", choices=LEVELS, default="info", help="the least that is logged")
    return parser


def _type(parse: Callable[[str], T]) -> Callable[[str], T]:
    """For argparse: the ValueError's text is what is wrong."""

    def checked(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return checked


def _lane_port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65534:
        raise ValueError(f"{text!r} is no port from 1 to 65534")
    return int(text)


def _overlay(text: str) -> Any:
    return text if text == _KUBEADM else ip_network(text)


def _duration(text: str) -> float:
    match = re.fullmatch(r"(\d{1,6})([smhd])", text, re.ASCII)
    if match is None or not int(match[1]):
        raise ValueError(f"{text!r} is no time like 30s, 15m, 24h or 7d")
    return float(int(match[1]) * _UNITS[match[2]])


def _rotation(text: str) -> float:
    seconds = _duration(text)
    if seconds < _LEAST_ROTATION:
        raise ValueError(f"{text!r} is less than {_LEAST_ROTATION}s: a rotation needs its time")
    return seconds


def _keepalive(text: str) -> int:
    seconds = _duration(text)
    # Below, packets that are late count as silence; above, sessions end in between.
    if not _KEEPALIVES[0] <= seconds <= _KEEPALIVES[1]:
        raise ValueError(f"{text!r} is not from {_KEEPALIVES[0]}s to {_KEEPALIVES[1]}s")
    return int(seconds)


def _listen(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    # Also as the downward API has it, without brackets.
    address = ip_address(host.removeprefix("[").removesuffix("]"))
    if not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{text!r} is no ADDRESS:PORT")
    return str(address), int(port)
