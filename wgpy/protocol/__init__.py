"""The WireGuard protocol without any I/O: bytes and `now` in, bytes and deadlines out."""
