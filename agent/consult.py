"""`wgpy-agent doctor`: all its questions, and the answers as text."""

import asyncio
import sys
import time
from collections.abc import Iterable

from agent.apierrors import KubeError
from agent.apiserver import ApiServer
from agent.doctor import Finding, examine_node
from agent.doctorcluster import examine_cluster, examine_paths, failure, lane_addresses
from agent.doctorhost import DoctorHost
from agent.options import Options
from agent.run import configuration

_MARKS = {"ok": "ok     ", "warning": "WARNING", "error": "ERROR  "}


def run(options: Options) -> int:
    """Print what is found, as it is found; 1 if anything is in error."""
    host = DoctorHost(options)
    bad = _tell("this node", examine_node(host, options))
    addresses, found = asyncio.run(_ask(options))
    bad |= _tell("the cluster", found)
    if addresses:
        bad |= _tell("through the tunnel", examine_paths(host, addresses))
    return int(bad)


async def _ask(options: Options) -> tuple[dict[str, list[str]], list[Finding]]:
    try:
        api = ApiServer(await configuration(options))
    except KubeError as error:
        return {}, [failure(error)]
    try:
        found = await examine_cluster(api, options, time.time)
        return await lane_addresses(api, options), found
    except KubeError as error:
        return {}, [*found, failure(error)]
    finally:
        await api.close()


def _tell(title: str, findings: Iterable[Finding]) -> bool:
    """Whether there was an error."""
    print(f"{title}:")
    bad = False
    for finding in findings:
        print(f"  {_MARKS[finding.verdict]} {finding.what}")
        if finding.verdict != "ok" and finding.advice:
            print(f"          -> {finding.advice}")
        bad |= finding.verdict == "error"
        sys.stdout.flush()
    return bad
