"""Every number of the protocol, with the section of the whitepaper that names it.

Where the paper and the Linux kernel differ, the kernel's value is used and marked DEVIATION.
"""

from typing import Final

# Section 5.4: names mixed into every handshake.
CONSTRUCTION: Final = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
IDENTIFIER: Final = b"WireGuard v1 zx2c4 Jason@zx2c4.com"
LABEL_MAC1: Final = b"mac1----"
LABEL_COOKIE: Final = b"cookie--"

# Sizes of primitives, bytes (section 5.4).
KEY_LEN: Final = 32
TAG_LEN: Final = 16
MAC_LEN: Final = 16
COOKIE_NONCE_LEN: Final = 24

# Section 5.4.2 to 5.4.7: the type byte of each message; three reserved zero bytes follow it,
# so that type and reserved read as one little-endian 32-bit number.
MESSAGE_INITIATION: Final = 1
MESSAGE_RESPONSE: Final = 2
MESSAGE_COOKIE_REPLY: Final = 3
MESSAGE_TRANSPORT: Final = 4
INITIATION_LEN: Final = 148
RESPONSE_LEN: Final = 92
COOKIE_REPLY_LEN: Final = 64
TRANSPORT_HEADER_LEN: Final = 16
TRANSPORT_OVERHEAD: Final = TRANSPORT_HEADER_LEN + TAG_LEN
KEEPALIVE_LEN: Final = TRANSPORT_OVERHEAD

# Section 6.1: life of a session. Messages and seconds.
REKEY_AFTER_MESSAGES: Final = 2**60
# DEVIATION: the kernel's U64_MAX - COUNTER_WINDOW_SIZE - 1 (paper: 2^64 - 2^13 - 1).
COUNTER_BITS_TOTAL: Final = 8192
COUNTER_WINDOW_SIZE: Final = COUNTER_BITS_TOTAL - 64
REJECT_AFTER_MESSAGES: Final = 2**64 - 1 - COUNTER_WINDOW_SIZE - 1
REKEY_AFTER_TIME: Final = 120.0
REJECT_AFTER_TIME: Final = 180.0
REKEY_ATTEMPT_TIME: Final = 90.0
REKEY_TIMEOUT: Final = 5.0
KEEPALIVE_TIMEOUT: Final = 10.0
# The kernel counts attempts rather than seconds: REKEY_ATTEMPT_TIME / REKEY_TIMEOUT.
MAX_TIMER_HANDSHAKES: Final = 18
# Section 6.1 names a jitter of up to 1/3 s on the retransmission of an initiation.
REKEY_TIMEOUT_JITTER: Final = 0.333
# Section 6.2: an initiator receiving on a session older than this starts a new one.
REKEY_ON_RECEIVE_AFTER: Final = REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT
# Section 6.3: without a new session for this long, all keys of a peer are erased.
ZERO_KEY_MATERIAL_AFTER: Final = 3 * REJECT_AFTER_TIME

# Section 5.1 and the kernel: at most one consumed initiation per peer in this many seconds.
INITIATIONS_PER_SECOND: Final = 50
MIN_INITIATION_INTERVAL: Final = 1.0 / INITIATIONS_PER_SECOND
# The kernel whitens timestamps down to a multiple of 2^24 ns, just under that interval.
TIMESTAMP_WHITENER_NS: Final = 2**24

# Section 5.3: cookies under load. Seconds.
COOKIE_SECRET_MAX_AGE: Final = 120.0
COOKIE_SECRET_LATENCY: Final = 5.0
UNDER_LOAD_AFTER: Final = 1.0
MAX_QUEUED_INCOMING_HANDSHAKES: Final = 4096
UNDER_LOAD_QUEUE: Final = MAX_QUEUED_INCOMING_HANDSHAKES // 8
RATELIMIT_PER_SECOND: Final = 20
RATELIMIT_BURST: Final = 5
RATELIMIT_MAX_ENTRIES: Final = 2**16

# The kernel: packets that wait for a session, per peer; and peers per interface.
MAX_STAGED_PACKETS: Final = 128
MAX_PEERS: Final = 2**20
# Section 5.4.6: plaintext is padded to a multiple of this, but never beyond the MTU (kernel).
MESSAGE_PADDING_MULTIPLE: Final = 16
DEFAULT_MTU: Final = 1420
# The kernel marks handshake messages AF41, without ECN.
HANDSHAKE_DSCP: Final = 0x88
