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
from interop.counterparts.userspace import Userspace
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
    names = options.scenarios or [n for n, s in SCENARIOS.items() if not (options.quick and s.slow)]
    results = []
    counterparts = options.against or list(COUNTERPARTS)
    for result in play_matrix(counterparts, names, implementation, options.keep):
        print(result, flush=True)
        results.append(result)
    if options.command == "matrix":
        version = Userspace("ours", implementation).version()
        matrix.write(options.output, options.implementation, version, results)
    return int(any(result.outcome in ("fail", "error") for result in results))


def _list() -> int:
    for name, scenario in SCENARIOS.items():
        print(f"{name:34} {'(slow) ' if scenario.slow else ''}{scenario.summary}")
    print("\nagainst:", *COUNTERPARTS)
    return 0


def _absolute(command: str) -> str:
    """The command with its path, as the guest may have another PATH."""
    words = command.split(" ", 1)
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
        "--implementation", default="wgpy", metavar="CMD", help="the command under test"
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
    every.set_defaults(scenarios=None)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
