from dataclasses import replace
from hashlib import blake2b
from os import urandom
from random import Random

import pytest
from nacl.bindings import crypto_box_beforenm

from agent.keys import BoxKeyError, KeyRing, LaneSecrets, Side, derive_psk
from wgpy.protocol.config import Secret


def side(name: str, seed: int, epoch: int = 1) -> tuple[LaneSecrets, Side]:
    secrets = LaneSecrets.generate(Random(seed).randbytes)
    return secrets, Side(name, secrets.public(51871, epoch))


A, A_SIDE = side("node-a", 1)
B, B_SIDE = side("node-b", 2)
C, C_SIDE = side("node-c", 3)


def test_both_ends_derive_one_key_of_what_the_other_publishes() -> None:
    at_a = derive_psk(A, 0, A_SIDE, B_SIDE)
    assert at_a == derive_psk(B, 0, B_SIDE, A_SIDE)
    assert len(at_a) == 32


def test_it_is_the_shared_key_of_a_nacl_box_and_all_that_it_is_bound_to() -> None:
    # From the other end.
    shared = crypto_box_beforenm(A_SIDE.keys.box_key, bytes(B.box_key))
    text = b"\0"
    for name, keys in ((b"node-a", A_SIDE.keys), (b"node-b", B_SIDE.keys)):
        text += len(name).to_bytes(2, "big") + name + keys.epoch.to_bytes(8, "big")
        text += keys.public_key + keys.box_key
    expected = blake2b(text, key=shared, person=b"wgpy psk 2", digest_size=32).digest()
    assert derive_psk(A, 0, A_SIDE, B_SIDE) == expected


def test_a_key_is_of_its_lane_names_epochs_and_keys() -> None:
    keys = A_SIDE.keys
    others = [
        replace(A_SIDE, name="node-x"),
        replace(A_SIDE, keys=replace(keys, public_key=C_SIDE.keys.public_key)),
        replace(A_SIDE, keys=replace(keys, epoch=2)),
        C_SIDE,
    ]
    found = [derive_psk(B, 0, B_SIDE, other) for other in (A_SIDE, *others)]
    found.append(derive_psk(B, 1, B_SIDE, A_SIDE))
    # A third node, who sees all that is public.
    found.append(derive_psk(C, 0, B_SIDE, A_SIDE))
    assert len({bytes(psk) for psk in found}) == len(found)


@pytest.mark.parametrize("key", [bytes(32), bytes([1, *bytes(31)])])
def test_a_box_key_of_low_order_is_refused(key: bytes) -> None:
    weak = replace(B_SIDE, keys=replace(B_SIDE.keys, box_key=key))
    with pytest.raises(BoxKeyError, match="node-b is no good"):
        derive_psk(A, 0, A_SIDE, weak)


def test_who_adopts_a_device_derives_as_who_made_it() -> None:
    first, successor, peer = KeyRing(urandom), KeyRing(urandom), KeyRing(urandom)
    own = Side("node-a", first.generate(51871, 4))
    other = Side("node-b", peer.generate(51871, 7))
    adopted = successor.adopt(first.private_key(own.keys.public_key), 51871, 4)
    assert adopted == own.keys
    assert first.psk(0, own, other) == successor.psk(0, own, other) == peer.psk(0, other, own)


def test_a_key_once_agreed_stays_when_the_peer_says_another_box_key() -> None:
    ring, peer = KeyRing(urandom), KeyRing(urandom)
    own = Side("node-a", ring.generate(51871, 1))
    other = Side("node-b", peer.generate(51871, 1))
    agreed = ring.psk(0, own, other)
    altered = replace(other, keys=replace(other.keys, box_key=C_SIDE.keys.box_key))
    assert ring.psk(0, own, altered) == agreed


def test_what_is_forgotten_is_gone() -> None:
    ring, peer = KeyRing(urandom), KeyRing(urandom)
    old, new = (Side("node-a", ring.generate(51871, epoch)) for epoch in (1, 2))
    other = Side("node-b", peer.generate(51871, 1))
    for own in (old, new):
        ring.adopt_psk(own.keys.public_key, other.keys.public_key, Secret(b"p" * 32))
    ring.forget_except({new.keys.public_key}, {other.keys.public_key})
    with pytest.raises(KeyError):
        ring.private_key(old.keys.public_key)
    assert ring.psk(0, new, other) == b"p" * 32
    ring.forget_except({new.keys.public_key}, set())
    assert ring.psk(0, new, other) != b"p" * 32


def test_secrets_do_not_show_in_what_is_printed() -> None:
    ring = KeyRing(urandom)
    own = ring.generate(51871, 1)
    secret = bytes(ring.private_key(own.public_key))
    assert repr(secret) not in repr(LaneSecrets(Secret(secret)))
    assert secret.hex() not in repr(LaneSecrets(Secret(secret)))
