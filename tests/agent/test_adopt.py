from dataclasses import replace
from os import urandom

import pytest

from agent.adopt import adopt, device_facts
from agent.keys import KeyRing, Side
from agent.lanefacts import DeviceFacts, PeerFacts
from agent.model import LaneKeys, WireGuardNode
from wgpy.protocol.config import InterfaceStats, PeerStats, Secret

SECOND = 10**9
FORMER = KeyRing(urandom)
LANES = (FORMER.generate(51871, 4), FORMER.generate(51872, 4))
PUBLISHED = WireGuardNode("self", LANES)
PSK = Secret(b"p" * 32)
MET, UNMET = LaneKeys(b"m" * 32, b"m" * 32, 1, 1), LaneKeys(b"u" * 32, b"u" * 32, 1, 1)


def device(lane: int) -> InterfaceStats:
    key = LANES[lane].public_key
    return InterfaceStats(
        private_key=FORMER.private_key(key),
        public_key=key,
        listen_port=LANES[lane].port,
        peers=(
            PeerStats(MET.public_key, PSK, last_handshake_ns=70 * SECOND, rx_bytes=9),
            PeerStats(UNMET.public_key, PSK),
        ),
    )


def test_facts_have_ages_and_no_age_without_a_handshake() -> None:
    facts = device_facts(device(0), 100 * SECOND)
    assert facts == DeviceFacts(
        LANES[0].public_key,
        {MET.public_key: PeerFacts(30.0, 9), UNMET.public_key: PeerFacts(None, 0)},
    )
    assert device_facts(None, 0) == DeviceFacts()


def test_a_clock_that_was_set_back_makes_a_handshake_new_not_never() -> None:
    assert device_facts(device(0), 1).peers[MET.public_key].handshake_age == 0


def test_a_successor_takes_over_keys_and_what_was_agreed_with_peers() -> None:
    ring = KeyRing(urandom)
    assert adopt(ring, PUBLISHED, (device(0), device(1))) == LANES
    own = Side("self", LANES[1])
    assert ring.private_key(own.keys.public_key) == device(1).private_key
    assert ring.psk(1, own, Side("met", MET)) == PSK
    # Without a handshake the other end may have another.
    assert ring.psk(1, own, Side("unmet", UNMET)) != PSK


@pytest.mark.parametrize(
    "found",
    [
        None,
        replace(device(0), private_key=None, public_key=None),
        replace(device(1), listen_port=51871),
    ],
    ids=["no device", "a new daemon", "a key that was never published"],
)
def test_a_lane_whose_key_nobody_knows_needs_a_new_one(found: InterfaceStats | None) -> None:
    assert adopt(KeyRing(urandom), PUBLISHED, (found, device(1))) == (None, LANES[1])


def test_an_object_that_others_have_written_is_not_believed() -> None:
    altered = replace(PUBLISHED, lanes=(replace(LANES[0], box_key=b"x" * 32), LANES[1]))
    assert adopt(KeyRing(urandom), altered, (device(0), device(1))) == (None, LANES[1])
    assert adopt(KeyRing(urandom), None, (device(0), device(1))) == (None, None)
