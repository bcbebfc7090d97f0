"""The implementations to test against, and how each is fetched."""

from __future__ import annotations

from interop.cache import SUITES
from interop.counterparts.base import Counterpart
from interop.counterparts.boringtun import Boringtun
from interop.counterparts.kernel import Kernel
from interop.counterparts.userspace import DebianDaemon

COUNTERPARTS: dict[str, Counterpart] = {
    counterpart.name: counterpart
    for counterpart in (
        *(DebianDaemon("wireguard-go", suite) for suite in SUITES),
        *(Kernel(suite) for suite in SUITES),
        Boringtun(),
    )
}
"""By name; Debian 12's wireguard-go has no offloads, the later ones do."""
