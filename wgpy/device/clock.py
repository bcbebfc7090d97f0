"""The clocks of the shell: the core itself reads none."""

import time


def now() -> float:
    """Seconds since boot, also those slept through: sessions age while a laptop is closed."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


wall_ns = time.time_ns
