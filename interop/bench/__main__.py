"""Measure wgpy beside wireguard-go, interleaved in one run.

examples:
  python -m interop.bench                      everything, three rounds, 40 minutes:
                                               into docs/bench, and the README's figures
  python -m interop.bench --rounds 1 --only tcp-1 ping
  python -m interop.bench --mtu 8920 --output /tmp/jumbo
  python -m interop.bench --again docs/bench   tables and picture, from the numbers in there
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

from interop import cache
from interop.bench import chart, tables
from interop.bench.limits import limits
from interop.bench.peers import NOTES
from interop.bench.probes import LINES, PROBES
from interop.bench.result import OURS, Machine, Result
from interop.bench.rounds import Pair, run_rounds
from interop.counterparts import COUNTERPARTS
from interop.counterparts.base import Implementation, Unavailable
from interop.counterparts.userspace import Userspace
from interop.netns import sweep
from interop.shell import CommandFailed, run

_AGAINST = ["wireguard-go-bookworm", "wireguard-go-sid"]
_MTU = 1420
_PACKAGES = ("cryptography", "numpy", "pynacl", "uvloop")
_HOME = Path("docs/bench")
_README = Path("README.md")
_NUMBERS = "results.json"


def main() -> int:
    options = _parser().parse_args()
    if options.output is None and not options.only and options.mtu == _MTU:
        options.output = _HOME
    if options.again is not None:
        result = Result.read(options.again / _NUMBERS)
        _publish(result, options.again)
        return 0
    if os.geteuid() != 0:
        print("bench: network namespaces need root", file=sys.stderr)
        return 2
    # A line for every handshake is no part of the work.
    os.environ.setdefault("LOG_LEVEL", "error")
    sweep()
    cache.need({"iperf3": "iperf3", "ping": "iputils-ping", "ss": "iproute2"})
    result = _measure(options)
    print("\n" + tables.report(result))
    if options.output is not None:
        _publish(result, options.output)
    return int(bool(result.errors))


def _measure(options: argparse.Namespace) -> Result:
    """Keeps what it has in the output directory, should it be ended half way."""
    pairs, versions = _pairs(options)
    baseline = [name for name in options.against if name in versions][-1:] or [OURS]
    kinds = {pair.name: pair.kind for pair in pairs}
    result = Result(_machine(), versions, kinds, baseline[0], options.rounds, options.mtu)
    result.notes += NOTES
    wanted = set(options.only)
    probes = [p for p in PROBES if not wanted or wanted & {line.key for line in p.lines}]

    def keep() -> None:
        if options.output is not None:
            options.output.mkdir(parents=True, exist_ok=True)
            result.write(options.output / _NUMBERS)

    run_rounds(result, probes, pairs, _say, keep)
    return result


def _say(text: str) -> None:
    print(text, flush=True)


def _publish(result: Result, directory: Path) -> None:
    (directory / "results.md").write_text(tables.report(result))
    chart.draw(result, directory / "results.svg")
    if directory.resolve() == _HOME.resolve():
        section = tables.readme_section(result)
        _README.write_text(tables.with_section(_README.read_text(), section))
    print(f"bench: see {directory}/results.md")


def _pairs(options: argparse.Namespace) -> tuple[list[Pair], dict[str, str]]:
    """Who is measured; and the versions."""
    ours = Userspace(OURS, options.implementation)
    pairs, versions = [Pair(OURS, ours, ours)], {OURS: ours.version()}
    for name in options.against:
        counterpart = COUNTERPARTS[name]
        if not isinstance(counterpart, Implementation):
            print(f"bench: {name} makes no interface", file=sys.stderr)
            continue
        try:
            versions[name] = counterpart.version()
        except (Unavailable, cache.CannotFetch) as error:
            print(f"bench: {name} cannot be had: {error}", file=sys.stderr)
            continue
        pairs.append(Pair(name, counterpart, counterpart))
        if name == options.against[-1]:
            pairs.append(Pair("wgpy to go", ours, counterpart, "mixed"))
            pairs.append(Pair("go to wgpy", counterpart, ours, "mixed"))
    if options.workers:
        two = Userspace(OURS, f"{options.implementation} {options.workers}")
        pairs.append(Pair("two workers", two, two, "workers"))
    for name, limit in limits(options.implementation):
        pairs.append(Pair(name, limit, limit, "limit"))
    return pairs, versions


def _machine() -> Machine:
    return {
        "processor": _processor(),
        "cpus": os.cpu_count() or 1,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": ", ".join(f"{name} {version(name)}" for name in _PACKAGES),
        "libipsec-mb": _installed("libipsec-mb?"),
        "iperf3": run("iperf3", "--version").split()[1],
        "commit": _commit(),
        "date": time.strftime("%Y-%m-%d"),
        # What else the machine had to do in the minutes before.
        "load": round(os.getloadavg()[1], 1),
    }


def _installed(pattern: str) -> str:
    """The version of the Debian packages of such a name; "-" for none."""
    try:
        text = run("dpkg-query", "--show", "--showformat=${Status} ${Version}\\n", pattern)
    except CommandFailed:
        return "-"
    found = [line.split()[-1] for line in text.splitlines() if line.startswith("install ok")]
    return " ".join(found) or "-"


def _commit() -> str:
    """Of the source tree, `+` for one with changes; "-" where there is none."""
    try:
        return run("git", "describe", "--always", "--dirty=+", "--exclude=*").strip()
    except CommandFailed:
        return "-"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m interop.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    keys = [line.key for line in LINES]
    add = parser.add_argument
    add("--only", nargs="+", choices=keys, default=[], metavar="LINE", help=", ".join(keys))
    add("--rounds", type=int, default=3, help="times that each is measured (3)")
    add("--mtu", type=int, default=_MTU, help=f"inner MTU ({_MTU})")
    add(
        "--against",
        nargs="+",
        default=_AGAINST,
        choices=list(COUNTERPARTS),
        metavar="NAME",
        help="implementations; ratios are to the last of them",
    )
    add("--implementation", default=f"{sys.executable} -m wgpy", metavar="COMMAND")
    add("--workers", default="--workers 2", metavar="OPTION", help="for two processes; '' for none")
    add("--output", type=Path, metavar="DIRECTORY", help="for numbers, tables and picture")
    add("--again", type=Path, metavar="DIRECTORY", help="measure nothing; draw what is in there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
