"""Measure wgpy beside wireguard-go, interleaved in one run.

examples:
  python -m interop.bench                      everything, three rounds, about forty minutes
  python -m interop.bench --rounds 1 --only tcp-1 ping
  python -m interop.bench --mtu 8920 --output /tmp/jumbo
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path

from interop import cache
from interop.bench import report
from interop.bench.limits import limits
from interop.bench.probes import PROBES
from interop.bench.rounds import Pair, run_rounds
from interop.counterparts import COUNTERPARTS
from interop.counterparts.base import Implementation, Unavailable
from interop.counterparts.userspace import Userspace
from interop.netns import sweep

_AGAINST = ["wireguard-go-bookworm", "wireguard-go-sid"]
_BASELINE = "wireguard-go-sid"


def main() -> int:
    options = _parser().parse_args()
    if os.geteuid() != 0:
        print("bench: network namespaces need root", file=sys.stderr)
        return 2
    sweep()
    cache.need({"iperf3": "iperf3", "ping": "iputils-ping", "ss": "iproute2"})
    pairs, versions = _pairs(options)
    probes = [
        p for p in PROBES if not options.only or {line.key for line in p.lines} & set(options.only)
    ]
    lines = [line for probe in probes for line in probe.lines]
    result = run_rounds(probes, pairs, options.rounds, options.mtu, print)
    machine = {
        "cpus": os.cpu_count(),
        "processor": _processor(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "mtu": options.mtu,
        "rounds": options.rounds,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    raw = {"machine": machine, "versions": versions, "values": result.values}
    (options.output / "results.json").write_text(json.dumps(raw, indent=1) + "\n")
    whole = [pair.name for pair in pairs if pair.kind == "whole"]
    others = [pair.name for pair in pairs if pair.kind != "whole"]
    text = report.report(result, lines, whole, others, _BASELINE, raw)
    (options.output / "results.md").write_text(text)
    (options.output / "results.svg").write_text(report.chart(result, lines, whole, _BASELINE))
    print("\n" + text)
    return int(bool(result.errors))


def _pairs(options: argparse.Namespace) -> tuple[list[Pair], dict[str, str]]:
    """Who is measured; and the versions."""
    ours = Userspace("wgpy", options.implementation)
    pairs, versions = [Pair("wgpy", ours, ours)], {"wgpy": ours.version()}
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
        if name == _BASELINE:
            pairs.append(Pair("wgpy to go", ours, counterpart, "limit"))
            pairs.append(Pair("go to wgpy", counterpart, ours, "limit"))
    if options.workers:
        two = Userspace("wgpy", f"{options.implementation} {options.workers}")
        pairs.append(Pair("two workers", two, two, "workers"))
    for name, limit in limits(options.implementation):
        pairs.append(Pair(name, limit, limit, "limit"))
    return pairs, versions


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
    keys = [line.key for probe in PROBES for line in probe.lines]
    add = parser.add_argument
    add("--only", nargs="+", choices=keys, default=[], metavar="LINE", help=", ".join(keys))
    add("--rounds", type=int, default=3, help="times that each is measured (3)")
    add("--mtu", type=int, default=1420, help="inner MTU (1420)")
    add("--against", nargs="+", default=_AGAINST, choices=list(COUNTERPARTS), metavar="NAME")
    add("--implementation", default=f"{sys.executable} -m wgpy", metavar="COMMAND")
    add("--workers", default="--workers 2", metavar="OPTION", help="for two processes; '' for none")
    add("--output", type=Path, default=Path("interop/bench"), metavar="DIRECTORY")
    return parser


if __name__ == "__main__":
    sys.exit(main())
