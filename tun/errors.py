"""What is wrong with a packet from the host."""


class BadSuperPacket(ValueError):
    """A packet that does not fit its virtio-net header."""
