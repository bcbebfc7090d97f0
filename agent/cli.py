"""The command `wgpy-agent`: argv and wiring only. Every command imports what it needs, no more."""

import argparse
import json
import os
import sys
from importlib import import_module
from pathlib import Path

USAGE = """usage: wgpy-agent COMMAND [OPTION]...

  run        the agent of this node (--help has its options)
  dataplane  the process that userspace devices live in
  status     what the agent of this node has to say
  rotate     new keys for this node, without loss
  doctor     what this node has and lacks, and what to do about it
  trace      the way from a pod of this node to another, and where it stops
  uninstall  remove all that the agent has made on this node
  demo       a cluster on this machine, shown at work
"""
_UNUSABLE = 2


def main(argv: list[str] | None = None) -> int:
    """Run the command in `argv` (without the program's name); the exit status."""
    command, *rest = (sys.argv[1:] if argv is None else argv) or [""]
    match command:
        case "run":
            options = import_module("agent.options").parse(rest, os.environ)
            status = import_module("agent.run").run(options)
        case "dataplane":
            status = _dataplane(rest)
        case "status":
            status = _status(rest)
        case "rotate":
            status = _rotate(rest)
        case "doctor":
            options = import_module("agent.options").parse(rest, os.environ)
            status = import_module("agent.consult").run(options)
        case "trace":
            status = import_module("agent.follow").run(rest, os.environ)
        case "uninstall":
            status = _uninstall(rest)
        case "demo":
            status = _demo(rest)
        case "-h" | "--help":
            print(USAGE, end="")
            status = 0
        case _:
            told = f"{command!r} is no command\n" if command else ""
            print(f"{told}{USAGE}", end="", file=sys.stderr)
            status = _UNUSABLE
    return int(status)


def _dataplane(argv: list[str]) -> int:
    launcher, log = import_module("agent.launcher"), import_module("agent.log")
    parser = _parser("dataplane", "Keep the userspace devices of this node running.")
    parser.add_argument("--socket", type=Path, default=launcher.SOCKET, help="for the agent")
    parser.add_argument("--log-level", choices=log.LEVELS, default="info")
    options = parser.parse_args(argv)
    log.set_up(options.log_level, os.environ.get("NODE_NAME", ""), sys.stderr)
    try:
        return int(launcher.run(options.socket))
    except OSError as error:
        print(f"wgpy-agent: {options.socket}: {error.strerror or error}", file=sys.stderr)
        return 1


def _status(argv: list[str]) -> int:
    parser = _parser("status", "Peers, lanes, and what is wrong.")
    parser.add_argument("--json", action="store_true", help="for programs")
    options = _with_socket(parser, argv)
    told = _ask(options.control, "status")
    if told is None:
        return 1
    render = import_module("agent.status").render
    status = told["status"]
    print(json.dumps(status, indent=2) + "\n" if options.json else render(status), end="")
    return 0


def _rotate(argv: list[str]) -> int:
    options = _with_socket(_parser("rotate", "Ask for new keys; `status` shows them come."), argv)
    return 1 if _ask(options.control, "rotate") is None else 0


def _uninstall(argv: list[str]) -> int:
    parser = _parser("uninstall", "Remove all that the agent has made on this node.")
    cni, sysctls = import_module("agent.network.cni"), import_module("agent.network.sysctls")
    add = parser.add_argument
    add("--cni-directory", type=Path, default=cni.DIRECTORY, help="of the container runtime")
    add("--proc-sys", type=Path, default=sysctls.PROC_SYS, help="the host's /proc/sys, writable")
    options = _with_socket(parser, argv)
    import_module("agent.log").set_up("info", os.environ.get("NODE_NAME", ""), sys.stderr)
    remove = import_module("agent.uninstall").uninstall
    try:
        failed = remove(options.control, options.cni_directory, options.proc_sys)
    except import_module("agent.network.base").NetworkError as refusal:
        failed = [refusal]
    for failure in failed:
        print(f"wgpy-agent: {failure}", file=sys.stderr)
    return 1 if failed else 0


def _demo(argv: list[str]) -> int:
    try:
        main = import_module("agent.demo.main")
    except ModuleNotFoundError as missing:
        print(f"wgpy-agent: demo: {missing}: pip install 'wgpy[demo]'", file=sys.stderr)
        return 1
    return int(main.run(argv))


def _ask(path: Path, what: str) -> dict[str, object] | None:
    control = import_module("agent.control")
    try:
        answer: dict[str, object] = control.ask(path, what)
    except control.ControlError as error:
        print(f"wgpy-agent: {error}", file=sys.stderr)
        return None
    return answer


def _with_socket(parser: argparse.ArgumentParser, argv: list[str]) -> argparse.Namespace:
    default = import_module("agent.control").SOCKET
    parser.add_argument("--control", type=Path, default=default, help="the agent's socket")
    return parser.parse_args(argv)


def _parser(command: str, text: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=f"wgpy-agent {command}", description=text, allow_abbrev=False
    )
