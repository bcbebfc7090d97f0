"""All scenarios, in the order of the matrix."""

from interop.scenarios import basic, rekey, roaming, load, bulk, stack  # noqa: F401, I001
from interop.scenarios.registry import SCENARIOS, DoesNotApply, Scenario

__all__ = ["SCENARIOS", "DoesNotApply", "Scenario"]
