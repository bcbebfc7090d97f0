"""From what is to what should be, touching nothing else (the rule of `wg syncconf`)."""

from wgpy.protocol.config import InterfaceChange, InterfaceStats


def diff(current: InterfaceStats, desired: InterfaceChange) -> InterfaceChange:
    """The smallest change that turns `current` into `desired`.

    `desired` is a whole configuration: peers it does not name are removed, and allowed IPs,
    preshared key and keepalive it does not give are taken away; its `remove`, `update_only` and
    `replace_*` flags say nothing here. Interface values that are None, and endpoints that are
    None, stay as they are. Live sessions of peers that stay are untouched.
    """
    raise NotImplementedError
