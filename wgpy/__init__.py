"""WireGuard in userspace: `Interface` is the protocol without I/O, `Device` one that runs.

See examples/interface.py and examples/device.py.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["Device", "Interface", "__version__"]

if TYPE_CHECKING:
    from wgpy.device.device import Device
    from wgpy.protocol.interface import Interface


def __getattr__(name: str) -> object:
    """Import on first use: the tools, which need neither, start quickly."""
    if name == "Device":
        from wgpy.device.device import Device

        return Device
    if name == "Interface":
        from wgpy.protocol.interface import Interface

        return Interface
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
