"""Keys of the lanes, and the preshared keys of all pairs. Pure.

A lane's box key is derived from its WireGuard key. So whoever adopts a live device has everything
again, and nothing needs to be written anywhere: private keys are in the devices and in memory.

    shared key    = X25519(private box key of one, public box key of the other), as NaCl's box
    preshared key = BLAKE2b(shared key; lane, both sides in the order of their names)

A side is bound with its name, epoch and both public keys, all of it with the lane. Both ends derive
the key from what the nodes publish anyway: nothing travels for a pair, as all pairs together would
be the square of the nodes. Who recorded the underlay has never seen a box key, as no handshake
carries it; a stolen WireGuard key is the same node's box key as well.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b

from nacl.bindings import crypto_scalarmult_base
from nacl.exceptions import CryptoError
from nacl.public import Box, PrivateKey, PublicKey

from agent.model import LaneKeys
from wgpy.protocol.config import Secret

# BLAKE2's personalization: at most 16 bytes each, and no two alike.
_BOX = b"wgpy lane box 1"
_PSK = b"wgpy psk 2"


class BoxKeyError(Exception):
    """A peer's box key with which nothing can be agreed upon; the text has no secret."""


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


def derive_psk(secrets: LaneSecrets, lane: int, own: Side, peer: Side) -> Secret:
    """The pair's preshared key, the same at both ends. BoxKeyError."""
    try:
        box = Box(PrivateKey(bytes(secrets.box_key)), PublicKey(peer.keys.box_key))
    except (CryptoError, ValueError):
        raise BoxKeyError(f"the box key of {peer.name} is no good") from None
    state = blake2b(key=box.shared_key(), person=_PSK, digest_size=32)
    state.update(bytes([lane]))
    for side in sorted((own, peer), key=lambda side: side.name):
        state.update(side.bound())
    return Secret(state.digest())


class KeyRing:
    """Secrets of this node's lanes and preshared keys of its peers, in this process only.

    New keys come of `random(bytes)`, which is os.urandom.
    """

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._secrets: dict[bytes, LaneSecrets] = {}
        # By own public key and the peer's. A key once agreed stays while both do: what else a peer
        # says of itself cuts no session.
        self._psks: dict[bytes, dict[bytes, Secret]] = {}

    def generate(self, port: int, epoch: int) -> LaneKeys:
        """Fresh keys for a lane."""
        return self._add(LaneSecrets.generate(self._random), port, epoch)

    def adopt(self, private_key: Secret, port: int, epoch: int) -> LaneKeys:
        """The keys that a live device has."""
        return self._add(LaneSecrets(private_key), port, epoch)

    def adopt_psk(self, public_key: bytes, peer_key: bytes, psk: Secret) -> None:
        """A preshared key that a live device has had a handshake with."""
        self._psks[public_key][peer_key] = psk

    def private_key(self, public_key: bytes) -> Secret:
        """KeyError: not one of ours, or forgotten."""
        return self._secrets[public_key].private_key

    def psk(self, lane: int, own: Side, peer: Side) -> Secret:
        """The pair's preshared key. BoxKeyError."""
        agreed = self._psks[own.keys.public_key]
        psk = agreed.get(peer.keys.public_key)
        if psk is None:
            psk = derive_psk(self._secrets[own.keys.public_key], lane, own, peer)
            agreed[peer.keys.public_key] = psk
        return psk

    def forget_except(self, public_keys: set[bytes], peer_keys: set[bytes]) -> None:
        """Drop what belongs to other lanes of ours than these, or to other peers."""
        self._secrets = {k: v for k, v in self._secrets.items() if k in public_keys}
        self._psks = {k: v for k, v in self._psks.items() if k in public_keys}
        for agreed in self._psks.values():
            for gone in agreed.keys() - peer_keys:
                del agreed[gone]

    def _add(self, secrets: LaneSecrets, port: int, epoch: int) -> LaneKeys:
        keys = secrets.public(port, epoch)
        self._secrets[keys.public_key] = secrets
        self._psks.setdefault(keys.public_key, {})
        return keys
