"""Check a WireGuard implementation against others.

examples:
  python -m interop list
  python -m interop run handshake-left --against wireguard-go-sid
  python -m interop run rekey-by-time-left --against kernel-sid --keep /tmp/captures
  python -m interop run handshake-left --against wireguard-go-sid --keylog
  python -m interop matrix --implementation 'wgpy -f'
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from pathlib import Path

from interop import matrix, netns
from interop.counterparts import COUNTERPARTS
from interop.counterparts.userspace import DebianDaemon, Userspace
from interop.played import Played
from interop.runner import play_matrix
from interop.scenarios import SCENARIOS


def main() -> int:
    options = _parser().parse_args()
    if options.command == "list":
        return _list()
    if os.geteuid() != 0:
        print("interop: network namespaces need root", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    netns.sweep()
    implementation = _absolute(options.implementation)
    if options.keylog:
        implementation += f" {options.keylog_option}"
        options.keep = options.keep or Path("captures")
    if options.command == "matrix":
        return _matrix(options, implementation)
    wanted = dict.fromkeys(options.against or COUNTERPARTS, options.scenarios)
    results = []
    for result in play_matrix(wanted, implementation, options.keep):
        print(result, flush=True)
        results.append(result)
    return int(any(result.is_bad for result in results))


def _matrix(options: argparse.Namespace, implementation: str) -> int:
    version = Userspace("ours", implementation).version()
    played = Played(options.output.with_suffix(".jsonl"), f"{options.implementation} {version}")
    if options.resume:
        played.resume()
    else:
        played.start()
    names = [n for n, s in SCENARIOS.items() if not (options.quick and s.slow)]
    wanted = {c: played.left(c, names) for c in options.against or COUNTERPARTS}
    for result in play_matrix(wanted, implementation, options.keep):
        print(result, flush=True)
        played.add(result)
    matrix.write(options.output, options.implementation, version, played.results)
    bad = sum(result.is_bad for result in played.latest().values())
    if bad:
        print(f"interop: {bad} did not pass; `matrix --resume` plays them again", file=sys.stderr)
    return int(bad > 0)


def _list() -> int:
    for name, scenario in SCENARIOS.items():
        print(f"{name:34} {'(slow) ' if scenario.slow else ''}{scenario.summary}")
    print("\nagainst:", *COUNTERPARTS)
    return 0


def _absolute(command: str) -> str:
    """The command with its path, as the guest may have another PATH.

    A counterpart that is a command may be named instead: it is fetched as such.
    """
    words = command.split(" ", 1)
    fetched = COUNTERPARTS.get(words[0])
    if isinstance(fetched, DebianDaemon):
        return " ".join([fetched.executable(), *words[1:]])
    beside = Path(sys.executable).parent / words[0]
    path = str(beside) if beside.exists() else shutil.which(words[0])
    if path is None:
        raise SystemExit(f"interop: no command {words[0]!r} to test (--implementation CMD)")
    return " ".join([path, *words[1:]])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m interop",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="scenarios and counterparts")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--implementation",
        default=matrix.NOTED,
        metavar="CMD",
        help="the command under test, or a counterpart that is one",
    )
    common.add_argument(
        "--against", action="append", choices=list(COUNTERPARTS), metavar="NAME",
        help="only this counterpart (may be repeated)",
    )  # fmt: skip
    common.add_argument("--keep", type=Path, metavar="DIR", help="keep logs and captures there")
    common.add_argument(
        "--keylog", action="store_true",
        help="keep captures of the whole conversation with session keys, NAME.pcap and NAME.keys "
        "in --keep DIR (captures): tshark -o wg.keylog_file:NAME.keys -r NAME.pcap",
    )  # fmt: skip
    common.add_argument(
        "--keylog-option", default="--keylog={keylog}", metavar="OPTION",
        help="what makes CMD write session keys in Wireshark's format to the file {keylog} "
        "(%(default)s)",
    )  # fmt: skip
    one = commands.add_parser("run", parents=[common], help="play some scenarios")
    one.add_argument("scenarios", nargs="+", choices=list(SCENARIOS), metavar="SCENARIO")
    every = commands.add_parser("matrix", parents=[common], help="play all, write matrix.md")
    every.add_argument("--output", type=Path, default=Path(__file__).with_name("matrix.md"))
    every.add_argument("--quick", action="store_true", help="without those that last minutes")
    every.add_argument(
        "--resume", action="store_true",
        help="keep what has passed since the last start without this option (OUTPUT with the "
        "ending .jsonl), play the rest",
    )  # fmt: skip
    every.set_defaults(scenarios=None)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
