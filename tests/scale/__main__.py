"""Measure one agent among many nodes; `make scale`.

examples:
  python -m tests.scale                         all of it, into docs/scale.json and docs/scale.md
  python -m tests.scale passes                  the agent's own work; needs no root
  python -m tests.scale cluster --nodes 200 --seconds 30 --output /tmp/scale
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from agent.apiserver import Json
from tests.cluster.controlplane import ControlPlane
from tests.cluster.install import install
from tests.scale.measure import measure
from tests.scale.report import write

_DOCS = Path(__file__).parents[2] / "docs"
_ROUNDS = 3


def main() -> int:
    options = _options()
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / "scale.json"
    # What is not measured now stays as it was.
    results = json.loads(file.read_text()) if file.exists() else {}
    for what in options.what or ("passes", "cluster"):
        found = []
        for count in options.nodes:
            _say(f"{what}, {count} nodes")
            if what == "passes":
                found.append(_passes(count))
            else:
                found.append(_cluster(count, options.seconds))
        results[what] = {**_machine(), "results": found}
        file.write_text(json.dumps(results, indent=1) + "\n")
        write(options.output / "scale.md", _DOCS / "scale.md", results)
    return 0


def _passes(count: int) -> Json:
    """Each time in a process of its own; the least of each, as a busy machine only adds."""
    argv = [sys.executable, "-m", "tests.scale.passes", str(count)]
    told: list[Json] = [
        json.loads(subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout)
        for _ in range(_ROUNDS)
    ]
    return {key: min(one[key] for one in told) for key in told[0]}


def _cluster(count: int, seconds: float) -> Json:
    """With a control plane of its own, so that one run leaves nothing to the next."""
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "plane").mkdir()
        with ControlPlane(Path(directory) / "plane") as plane:
            install(plane.admin)
            numbers = asyncio.run(measure(plane, Path(directory), count, seconds, _say))
    return numbers.to_object()


def _machine() -> Json:
    return {
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def _say(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("what", nargs="*", choices=[[], "passes", "cluster"], help="all by default")
    add("--nodes", type=int, nargs="+", default=[1000, 5000])
    add("--seconds", type=float, default=120.0, help="of quiet, and of changes")
    add("--output", type=Path, default=_DOCS)
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
