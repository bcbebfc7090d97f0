"""Inside the virtual machine: play scenarios against the running kernel (started by `vm`)."""

from __future__ import annotations

import argparse
from pathlib import Path

from interop.counterparts import COUNTERPARTS
from interop.counterparts.userspace import Userspace
from interop.runner import Cell, play_here
from interop.shell import run

_JOBS = 2


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kernel", required=True)
    parser.add_argument("--implementation", required=True)
    parser.add_argument("--directory", required=True, type=Path)
    parser.add_argument("scenarios", nargs="+")
    options = parser.parse_args()
    run("ip", "link", "set", "lo", "up")
    version = run("uname", "-r").strip()
    ours = Userspace("ours", options.implementation)
    theirs = COUNTERPARTS[options.kernel]
    directory = options.directory
    cells = [Cell(name, theirs, version, directory) for name in options.scenarios]
    for result in play_here(cells, ours, _JOBS):
        with (directory / "results.jsonl").open("a") as out:
            out.write(result.line())


if __name__ == "__main__":
    main()
