"""All scenarios, in the order of the matrix."""

from interop.scenarios import basic, rekey, roaming, load, bulk  # noqa: I001
from interop.scenarios.registry import SCENARIOS, Scenario, play

__all__ = ["SCENARIOS", "Scenario", "basic", "bulk", "load", "play", "rekey", "roaming"]
