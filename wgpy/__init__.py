"""WireGuard in userspace: a pure protocol core, and a device that runs it on a TUN."""
