"""Measure wgpy beside wireguard-go, interleaved in one run.

examples:
  python -m interop.bench                      all metrics, three rounds, about twenty minutes
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
from interop.bench.metrics import METRICS
from interop.bench.rounds import run_rounds
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
    implementations: dict[str, Implementation] = {"wgpy": Userspace("wgpy", options.implementation)}
    versions = {"wgpy": implementations["wgpy"].version()}
    for name in options.against:
        counterpart = COUNTERPARTS[name]
        if not isinstance(counterpart, Implementation):
            print(f"bench: {name} makes no interface", file=sys.stderr)
            continue
        try:
            versions[name] = counterpart.version()
            implementations[name] = counterpart
        except (Unavailable, cache.CannotFetch) as error:
            print(f"bench: {name} cannot be had: {error}", file=sys.stderr)
    pairs = [(name, one, one) for name, one in implementations.items()]
    if options.mixed and _BASELINE in implementations:
        ours, theirs = implementations["wgpy"], implementations[_BASELINE]
        pairs += [("wgpy to go", ours, theirs), ("go to wgpy", theirs, ours)]
    metrics = [m for m in METRICS if not options.only or m.key in options.only]
    result = run_rounds(metrics, pairs, options.rounds, options.mtu, print)
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
    table = report.table(result, metrics, [name for name, *_ in pairs], _BASELINE, raw)
    (options.output / "results.md").write_text(table)
    chart = report.chart(result, metrics, list(implementations), _BASELINE)
    (options.output / "results.svg").write_text(chart)
    print("\n" + table)
    return 0


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
    keys = [metric.key for metric in METRICS]
    add = parser.add_argument
    add("--only", nargs="+", choices=keys, metavar="METRIC", help=f"of: {', '.join(keys)}")
    add("--rounds", type=int, default=3, help="times that each is measured (3)")
    add("--mtu", type=int, default=1420, help="inner MTU (1420)")
    add("--mixed", action="store_true", help="also wgpy at one end and wireguard-go at the other")
    add("--against", nargs="+", default=_AGAINST, choices=list(COUNTERPARTS), metavar="NAME")
    add("--implementation", default=f"{sys.executable} -m wgpy", metavar="COMMAND")
    add("--output", type=Path, default=Path("interop/bench"), metavar="DIRECTORY")
    return parser


if __name__ == "__main__":
    sys.exit(main())
