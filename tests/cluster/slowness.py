"""How much slower than usual the machine is: an emulated one is told so by its host."""

from __future__ import annotations

import os

VARIABLE = "WGPY_SLOWNESS"
SLOWNESS = float(os.environ.get(VARIABLE, "1"))
