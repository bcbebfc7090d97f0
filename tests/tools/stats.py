"""An interface with every kind of peer, as the UAPI answer a daemon gives."""

NOW = 1_800_000_000


def _peer(byte: str, **values: object) -> str:
    lines = [f"public_key={byte * 32}\n"]
    for key, value in values.items():
        found = value if isinstance(value, list) else [value]
        lines += [f"{key}={one}\n" for one in found]
    return "".join(lines)


def answer(now: int) -> str:
    """The whole answer to get=1; handshakes are told relative to `now`, seconds since 1970."""
    return (
        f"private_key={'11' * 32}\nlisten_port=51820\nfwmark=4660\n"
        + _peer(
            "aa", preshared_key="00" * 32, protocol_version=1, last_handshake_time_sec=0, tx_bytes=0
        )
        + _peer(
            "bb",
            preshared_key="22" * 32,
            endpoint="1.2.3.4:5",
            last_handshake_time_sec=now - 3700,
            last_handshake_time_nsec=5,
            tx_bytes=1024,
            rx_bytes=1023,
            persistent_keepalive_interval=25,
            allowed_ip=["10.0.0.0/24", "fd00::/64"],
        )
        + _peer(
            "cc",
            endpoint="[fe80::1%1]:5",
            last_handshake_time_sec=now - 86400 * 800 - 61,
            tx_bytes=1 << 20,
            rx_bytes=(1 << 30) - 1,
            persistent_keepalive_interval=3661,
            allowed_ip=["0.0.0.0/0"],
        )
        + _peer(
            "dd",
            endpoint="[2001:db8::1]:5",
            last_handshake_time_sec=now + 1000,
            tx_bytes=1 << 40,
            rx_bytes=(1 << 50) + 12345678901,
        )
        + _peer("ee", tx_bytes=0, rx_bytes=1)
        + _peer(
            "ff",
            last_handshake_time_sec=now - 3700,
            last_handshake_time_nsec=6,
            tx_bytes=(1 << 30) * 3 // 2,
            rx_bytes=0,
            allowed_ip=["::ffff:1.2.3.4/128"],
        )
        + "errno=0\n\n"
    )


BARE = "errno=0\n\n"
ZERO_KEY_ONLY = f"private_key={'00' * 32}\nerrno=0\n\n"
