"""The numbers as tables, in a document that says what bounds them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from agent.apiserver import Json

_PASSES = {
    "list_nodes": "all Nodes listed and read, s of CPU",
    "list_published": "all WireGuardNodes listed and read, s of CPU",
    "first_pass": "the first pass, s of CPU",
    "look": "a look at both lanes, s of CPU",
    "calm_pass": "a pass in which nothing has changed, s of CPU",
    "pass_after_a_change": "a pass with another node's new key, s of CPU",
    "pass_with_a_new_node": "a pass with a node that is new, s of CPU",
    "memory": "memory, caches and lanes' peers together, MiB",
}
_CLUSTER = {
    "start_peers": "start to all peers configured, s",
    "start_ready": "start to everything in order, routes too, s",
    "start_cpu": "CPU of the start, s",
    "start_calls": "API calls of the start",
    "memory": "resident memory then, MiB",
    "memory_peak": "resident memory at most, MiB",
    "idle_cpu": "CPU while nothing happens, % of one",
    "idle_calls_a_minute": "API calls a minute while nothing happens",
    "changes_cpu": "CPU under 100 node changes a minute, % of one",
    "changes_calls_a_minute": "API calls a minute under 100 node changes a minute",
    "change_median": "from a change to the lane's new peer, median, s",
    "change_longest": "from a change to the lane's new peer, longest, s",
    "other_rotation": "another node's rotation followed, all steps, s",
    "own_rotation": "own rotation, s",
    "own_rotation_cpu": "CPU of an own rotation, s",
    "own_rotation_calls": "API calls of an own rotation",
}


def write(target: Path, template: Path, results: Json) -> None:
    """`template` with the tables of these results, to `target`."""
    text = template.read_text()
    for what, rows in (("passes", _PASSES), ("cluster", _CLUSTER)):
        if what in results:
            begin, end = f"<!-- {what}: begin -->\n", f"<!-- {what}: end -->\n"
            head, _, rest = text.partition(begin)
            _, _, tail = rest.partition(end)
            text = head + begin + table(results[what], rows) + end + tail
    target.write_text(text)


def table(measured: Json, rows: Mapping[str, str]) -> str:
    found = measured["results"]
    counts = [f"{one['nodes']:,} nodes" for one in found]
    lines = ["| | " + " | ".join(counts) + " |", "|---|" + "---:|" * len(counts)]
    for key, name in rows.items():
        cells = [f"{one[key]:.2f}" if one[key] < 10 else f"{one[key]:.0f}" for one in found]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    said = (
        f"Measured on {measured['date']}: {measured['cpus']} CPUs, Linux {measured['kernel']}, "
        f"Python {measured['python']}."
    )
    return "\n".join([said, "", *lines]) + "\n"
