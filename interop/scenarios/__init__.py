"""All scenarios; importing a module registers those that it holds, in the matrix's order."""

from importlib import import_module

from interop.scenarios.registry import SCENARIOS, DoesNotApply, Scenario

for _topic in (
    *("basic", "rekey", "roaming", "silence", "timing", "loss"),
    *("nat", "limits", "clock", "load", "routing", "ecn", "bulk", "large", "hub", "paths"),
    *("fulltunnel", "planes", "stack", "likeness"),
):
    import_module(f"interop.scenarios.{_topic}")

__all__ = ["SCENARIOS", "DoesNotApply", "Scenario"]
