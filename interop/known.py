"""Faults of counterparts that the suite itself found: they are shown, and not held against ours.

Each is seen as well when the counterpart plays against itself.
"""

_POOLED_ADDRESS = (
    "wireguard-go's pooled socket address keeps its IPv4 length while an IPv6 address is copied "
    "into it, so the first packet after a change of family goes to a truncated address"
)
_OLD_SOURCE = (
    "wireguard-go 0.0.20220316 keeps sending from an IPv4 source address that has gone, "
    "until the next handshake"
)

_NO_ECN = "wireguard-go leaves the outer header's ECN field zero"
_NO_MARK = "wireguard-go does not look at the outer header's ECN field"
_LOOP = (
    "wireguard-go takes its own datagrams back from the TUN without end: one echo makes some "
    "hundred thousand packets"
)
_RACE = (
    "wireguard-go may arm its retransmission after the response has come, and initiates again "
    "after 5 s"
)

KNOWN_FAULTS = {
    ("ecn-right", "wireguard-go-bookworm"): _NO_ECN,
    ("ecn-right", "wireguard-go-trixie"): _NO_ECN,
    ("ecn-right", "wireguard-go-sid"): _NO_ECN,
    ("congestion-on-the-way-left", "wireguard-go-bookworm"): _NO_MARK,
    ("congestion-on-the-way-left", "wireguard-go-trixie"): _NO_MARK,
    ("congestion-on-the-way-left", "wireguard-go-sid"): _NO_MARK,
    ("from-v4-to-v6-and-back-left", "wireguard-go-trixie"): _POOLED_ADDRESS,
    ("from-v4-to-v6-and-back-right", "wireguard-go-trixie"): _POOLED_ADDRESS,
    ("from-v4-to-v6-and-back-left", "wireguard-go-sid"): _POOLED_ADDRESS,
    ("from-v4-to-v6-and-back-right", "wireguard-go-sid"): _POOLED_ADDRESS,
    ("routing-loop-right", "wireguard-go-bookworm"): _LOOP,
    ("routing-loop-right", "wireguard-go-trixie"): _LOOP,
    ("routing-loop-right", "wireguard-go-sid"): _LOOP,
    ("restart-and-wait-right", "wireguard-go-bookworm"): _RACE,
    ("restart-and-wait-right", "wireguard-go-trixie"): _RACE,
    ("restart-and-wait-right", "wireguard-go-sid"): _RACE,
    ("source-address-disappears-right", "wireguard-go-bookworm"): _OLD_SOURCE,
}
"""Why, by scenario and counterpart."""
