"""What the probe says on a kernel with the module, without it, and to who may not ask: as JSON.

For a guest: it takes the module away for good.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from agent.backend import choose
from agent.network.base import NetworkError
from wgpy.dataplane import probe


def told() -> dict[str, str]:
    """The reasons, and what an agent makes of them."""
    found = probe()
    try:
        plane = str(choose("auto", found))
    except NetworkError as error:
        plane = f"none: {error}"
    return {"kernel": found.kernel_reason, "userspace": found.userspace_reason, "plane": plane}


def _without_capability() -> dict[str, str]:
    argv = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
    done = subprocess.run(
        [*argv, sys.executable, "-m", "tests.system.probing", "told"],
        stdout=subprocess.PIPE,
        check=True,
    )
    answer: dict[str, str] = json.loads(done.stdout)
    return answer


def main() -> None:
    if sys.argv[1:] == ["told"]:
        print(json.dumps(told()))
        return
    answers = {"present": told(), "forbidden": _without_capability()}
    # So that the kernel does not load it again when it is asked.
    Path("/proc/sys/kernel/modprobe").write_text("/bin/false")
    subprocess.run(["rmmod", "wireguard"], check=True)
    answers["absent"] = told()
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
