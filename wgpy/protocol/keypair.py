"""Sessions: one pair of transport keys, and the three slots in which a peer keeps them."""

from collections.abc import Iterator

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from wgpy.protocol.constants import (
    REJECT_AFTER_MESSAGES,
    REJECT_AFTER_TIME,
    REKEY_AFTER_MESSAGES,
    REKEY_AFTER_TIME,
    REKEY_ON_RECEIVE_AFTER,
)
from wgpy.protocol.noise import SessionKeys
from wgpy.protocol.replay import ReplayWindow

_RETIRED_KEPT = 3


class Keypair:
    """Transport keys of one session (section 5.4.5), its send counter and its replay window."""

    __slots__ = (
        "_keys",
        "created",
        "is_initiator",
        "local_index",
        "open_into",
        "receive_key_address",
        "remote_index",
        "replay",
        "seal_into",
        "send_counter",
        "send_key_address",
        "sending",
    )

    def __init__(self, keys: SessionKeys, now: float) -> None:
        self.seal_into = ChaCha20Poly1305(keys.send_key).encrypt_into
        self.open_into = ChaCha20Poly1305(keys.receive_key).decrypt_into
        # Where the keys are in memory, for as long as this has them.
        self._keys = np.frombuffer(keys.send_key + keys.receive_key, np.uint8)
        self.send_key_address: int = self._keys.ctypes.data
        self.receive_key_address = self.send_key_address + len(keys.send_key)
        self.is_initiator = keys.is_initiator
        self.local_index = keys.local_index
        self.remote_index = keys.remote_index
        self.created = now
        # The counter of the next message.
        self.send_counter = 0
        # False once the session may only receive.
        self.sending = True
        self.replay = ReplayWindow()

    def __repr__(self) -> str:
        role = "initiator" if self.is_initiator else "responder"
        return f"Keypair({role}, {self.local_index:#x}, sent {self.send_counter})"

    def reserve(self, count: int, now: float) -> int | None:
        """The first of `count` counters that are ours alone; None if the session may not send."""
        if not self.sending:
            return None
        first = self.send_counter
        if now - self.created >= REJECT_AFTER_TIME or first + count > REJECT_AFTER_MESSAGES:
            self.sending = False
            return None
        self.send_counter = first + count
        return first

    def erase(self) -> None:
        """It will not be used again."""

    def confirm(self) -> None:
        """The initiator has sent its first packet."""

    @property
    def was_confirmed(self) -> bool:
        """Whether another process has received that first packet."""
        return False

    def may_receive(self, now: float) -> bool:
        return now - self.created < REJECT_AFTER_TIME

    def wants_rekey_after_sending(self, now: float) -> bool:
        """Section 6.2: after so many messages; or with age, but only the initiator."""
        return self.sending and (
            self.send_counter > REKEY_AFTER_MESSAGES
            or (self.is_initiator and now - self.created >= REKEY_AFTER_TIME)
        )

    def wants_rekey_after_receiving(self, now: float) -> bool:
        """Section 6.2: the initiator, in the last seconds before the session is rejected."""
        return self.sending and self.is_initiator and now - self.created >= REKEY_ON_RECEIVE_AFTER


class Keypairs:
    """The sessions of one peer: the one that sends, one not yet confirmed, and retired ones.

    DEVIATION: the kernel retires one session, and drops it when the next handshake is answered.
    When initiations cross, each side sends with the session that it started, and packets of
    three others can still be on their way.
    """

    __slots__ = ("current", "next", "retired")

    def __init__(self) -> None:
        self.current: Keypair | None = None
        self.next: Keypair | None = None
        # May still receive; the newest first.
        self.retired: list[Keypair] = []

    def __iter__(self) -> Iterator[Keypair]:
        return (k for k in (self.current, self.next, *self.retired) if k is not None)

    def install(self, new: Keypair) -> list[Keypair]:
        """Take in a fresh session; return those that are erased.

        The initiator knows that both sides have the keys and sends with them at once. The
        responder waits in `next` until the initiator's first packet confirms them.
        """
        if not new.is_initiator:
            erased = [] if self.next is None else [self.next]
            self.next = new
            return erased
        erased = self._retire(self.current) + self._retire(self.next)
        self.current, self.next = new, None
        return erased

    def confirm(self) -> list[Keypair]:
        """The first packet under `next` was authenticated: it sends now. Returns the erased."""
        erased = self._retire(self.current)
        self.current, self.next = self.next, None
        return erased

    def _retire(self, keypair: Keypair | None) -> list[Keypair]:
        if keypair is not None:
            self.retired.insert(0, keypair)
        erased = self.retired[_RETIRED_KEPT:]
        del self.retired[_RETIRED_KEPT:]
        return erased

    def stop_sending(self) -> None:
        """After a change of the private key: what is under way may still arrive."""
        for keypair in (self.current, self.next):
            if keypair is not None:
                keypair.sending = False

    def clear(self) -> list[Keypair]:
        """Erase all sessions."""
        erased = list(self)
        self.current = self.next = None
        self.retired = []
        return erased
