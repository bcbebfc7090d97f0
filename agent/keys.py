"""Keys of the lanes, and preshared keys made of two sealed halves. Pure.

A lane's box key is derived from its WireGuard key. So whoever adopts a live device has everything
again, and nothing needs to be written anywhere: private keys are in the devices and in memory.
For the same reason a half is derived and not drawn: an agent and its successor seal the same.

    half of W for R = BLAKE2b(private box key of W; W, R)
    preshared key   = BLAKE2b(both halves in the order of the names; both sides in that order)

A side is bound with its name, epoch and both public keys, all of it with the lane.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b

from nacl.bindings import crypto_scalarmult_base
from nacl.exceptions import CryptoError
from nacl.public import Box, PrivateKey, PublicKey

from agent.model import LaneKeys, SealedHalf
from wgpy.protocol.config import Secret

HALF_LEN = 32
# BLAKE2's personalization: at most 16 bytes each, and no two alike.
_BOX = b"wgpy lane box 1"
_HALF = b"wgpy psk half 1"
_NONCE = b"wgpy psk nonce 1"
_PSK = b"wgpy psk 1"


class SealError(Exception):
    """A half that cannot be sealed, or was not sealed for this pair; the text has no secret."""


@dataclass(frozen=True, slots=True)
class LaneSecrets:
    """The private keys of one lane."""

    private_key: Secret
    box_key: Secret = field(init=False)

    def __post_init__(self) -> None:
        box_key = blake2b(key=self.private_key, person=_BOX, digest_size=32).digest()
        object.__setattr__(self, "box_key", Secret(box_key))

    @classmethod
    def generate(cls, random: Callable[[int], bytes]) -> "LaneSecrets":
        """From `random(bytes)`, clamped as `wg genkey` does: a device returns it unchanged."""
        key = bytearray(random(32))
        key[0] &= 248
        key[31] = (key[31] & 127) | 64
        return cls(Secret(key))

    def public(self, port: int, epoch: int) -> LaneKeys:
        """What others may know."""
        public_key = crypto_scalarmult_base(self.private_key)
        return LaneKeys(public_key, crypto_scalarmult_base(self.box_key), port, epoch)


@dataclass(frozen=True, slots=True)
class Side:
    """One end of a pair on one lane."""

    name: str
    keys: LaneKeys

    def bound(self) -> bytes:
        """Everything that a key of the pair depends on; no two sides have the same."""
        name = self.name.encode()
        keys = self.keys
        epoch = keys.epoch.to_bytes(8, "big")
        return len(name).to_bytes(2, "big") + name + epoch + keys.public_key + keys.box_key


def seal_half(secrets: LaneSecrets, lane: int, writer: Side, reader: Side) -> SealedHalf:
    """The writer's half, which the reader alone can open. SealError if its key is no good."""
    half = own_half(secrets, lane, writer, reader)
    box = _box(secrets, reader)
    sealed = box.encrypt(half, _nonce(lane, writer, reader)).ciphertext
    return SealedHalf(writer.keys.epoch, reader.keys.epoch, sealed)


def own_half(secrets: LaneSecrets, lane: int, writer: Side, reader: Side) -> Secret:
    """The writer's half: 32 bytes that say nothing about any other half."""
    return _derived(secrets.box_key, _HALF, lane, writer.bound(), reader.bound())


def open_half(
    secrets: LaneSecrets, lane: int, writer: Side, reader: Side, half: SealedHalf
) -> Secret:
    """The writer's half, with the reader's secrets.

    SealError: it is for other epochs than those of the sides, which happens while news travels,
    or has been made or altered by somebody else.
    """
    if (half.writer_epoch, half.reader_epoch) != (writer.keys.epoch, reader.keys.epoch):
        raise SealError(f"the half of {writer.name} for {reader.name} is for other epochs")
    try:
        opened = _box(secrets, writer).decrypt(half.sealed, _nonce(lane, writer, reader))
    except (CryptoError, ValueError):
        raise SealError(f"the half of {writer.name} for {reader.name} does not open") from None
    if len(opened) != HALF_LEN:
        raise SealError(f"the half of {writer.name} for {reader.name} is not {HALF_LEN} bytes")
    return Secret(opened)


def derive_psk(lane: int, one: Side, half: Secret, other: Side, other_half: Secret) -> Secret:
    """The pair's preshared key; the order of the sides does not matter."""
    (lower, first), (upper, second) = sorted(
        ((one, half), (other, other_half)), key=lambda entry: entry[0].name
    )
    return _derived(bytes(first) + bytes(second), _PSK, lane, lower.bound(), upper.bound())


def _derived(key: bytes, purpose: bytes, lane: int, *bound: bytes) -> Secret:
    state = blake2b(key=key, person=purpose, digest_size=32)
    state.update(bytes([lane]))
    for part in bound:
        state.update(part)
    return Secret(state.digest())


def _nonce(lane: int, writer: Side, reader: Side) -> bytes:
    """Both directions of a pair share one box, so the order tells them apart.

    It never comes twice with another text: a half is a function of what is hashed here.
    """
    text = bytes([lane]) + writer.bound() + reader.bound()
    return blake2b(text, person=_NONCE, digest_size=Box.NONCE_SIZE).digest()


def _box(secrets: LaneSecrets, other: Side) -> Box:
    try:
        return Box(PrivateKey(bytes(secrets.box_key)), PublicKey(other.keys.box_key))
    except (CryptoError, ValueError):
        raise SealError(f"the box key of {other.name} is no good") from None


class KeyRing:
    """Secrets of this node's lanes and preshared keys of its peers, in this process only.

    New keys come of `random(bytes)`, which is os.urandom.
    """

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._secrets: dict[bytes, LaneSecrets] = {}
        # By own public key and the peer's. Once agreed, a key stays while both do: a half that
        # is missing for a moment cuts no session.
        self._psks: dict[tuple[bytes, bytes], Secret] = {}
        self._sealed: dict[tuple[int, Side, Side], SealedHalf] = {}

    def generate(self, port: int, epoch: int) -> LaneKeys:
        """Fresh keys for a lane."""
        return self._add(LaneSecrets.generate(self._random), port, epoch)

    def adopt(self, private_key: Secret, port: int, epoch: int) -> LaneKeys:
        """The keys that a live device has."""
        return self._add(LaneSecrets(private_key), port, epoch)

    def adopt_psk(self, public_key: bytes, peer_key: bytes, psk: Secret) -> None:
        """A preshared key that a live device has had a handshake with."""
        self._psks[public_key, peer_key] = psk

    def private_key(self, public_key: bytes) -> Secret:
        """KeyError: not one of ours, or forgotten."""
        return self._secrets[public_key].private_key

    def seal(self, lane: int, own: Side, peer: Side) -> SealedHalf:
        """Our half for a peer. SealError."""
        what = lane, own, peer
        if what not in self._sealed:
            self._sealed[what] = seal_half(self._secrets[own.keys.public_key], lane, own, peer)
        return self._sealed[what]

    def psk(self, lane: int, own: Side, peer: Side, half: SealedHalf | None) -> Secret | None:
        """The pair's preshared key; None until the peer's half is there. SealError."""
        pair = own.keys.public_key, peer.keys.public_key
        if pair not in self._psks:
            if half is None:
                return None
            secrets = self._secrets[own.keys.public_key]
            opened = open_half(secrets, lane, peer, own, half)
            mine = own_half(secrets, lane, own, peer)
            self._psks[pair] = derive_psk(lane, own, mine, peer, opened)
        return self._psks[pair]

    def forget_except(self, public_keys: set[bytes], peer_keys: set[bytes]) -> None:
        """Drop what belongs to other lanes of ours than these, or to other peers."""
        self._secrets = {k: v for k, v in self._secrets.items() if k in public_keys}
        self._psks = {
            pair: psk
            for pair, psk in self._psks.items()
            if pair[0] in public_keys and pair[1] in peer_keys
        }
        self._sealed = {
            what: half
            for what, half in self._sealed.items()
            if what[1].keys.public_key in public_keys and what[2].keys.public_key in peer_keys
        }

    def _add(self, secrets: LaneSecrets, port: int, epoch: int) -> LaneKeys:
        keys = secrets.public(port, epoch)
        self._secrets[keys.public_key] = secrets
        return keys
