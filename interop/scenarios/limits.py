"""What a session does not outlive: its counters and its keys.

The suite itself is one end, so that it can use a session as no implementation would.
"""

from __future__ import annotations

import time

from interop.counterparts.base import Implementation
from interop.netns import Lab
from interop.scenarios.registry import scenario
from interop.session import Speaker
from interop.shell import expect
from interop.tunnel import End, tunnel

_LAST_COUNTER = 2**64 - 2**13 - 2
"""The last below the paper's REJECT_AFTER_MESSAGES."""
_NEVER = 2**64 - 2
"""Beyond it for every implementation: the kernel's limit is 63 above the paper's."""
_REJECT_AFTER_TIME = 180.0
_ERASED_AFTER = 3 * _REJECT_AFTER_TIME


@scenario(both_ways=False)
def counters_end(lab: Lab, left: Implementation, right: Implementation) -> None:
    """The last counter below 2^64 - 2^13 - 1 is taken, one above is not, nor is its session.

    suite (keys of left) ── counter 0, 2^64 - 2^13 - 2 ──> right answers
                         ── counter 2^64 - 2 ───────x
    suite (keys of right) ── the same ──> left
    """
    for me, peer, speaker in _speakers(lab, left, right):
        name = peer.implementation.name
        expect(speaker.echoes(0), f"{name} does not answer the suite")
        expect(speaker.echoes(_LAST_COUNTER), f"{name} refuses a counter below the limit")
        received = peer.show("transfer", me).split()[0]
        expect(not speaker.echoes(_NEVER), f"{name} takes a counter above the limit")
        expect(peer.show("transfer", me).split()[0] == received, f"{name} counts what it refused")
        expect(speaker.shakes_hands(), f"{name} makes no new session after that")
        expect(speaker.echoes(0), f"{name} does not answer in the new session")


@scenario(both_ways=False, slow=True)
def keys_end(lab: Lab, left: Implementation, right: Implementation) -> None:
    """A session of 172 s still carries data, one of 183 s does not; then a new one begins.

    suite (keys of left) ── silence until 172 s, echo ──> right answers
                         ── silence until 183 s, echo ───x
                         ── handshake, echo ────────────> right answers
    suite (keys of right) ── the same ──> left
    """
    _age(lab, left, right, (172.0, True), (_REJECT_AFTER_TIME + 3, False))


@scenario(both_ways=False, slow=True)
def keys_erased(lab: Lab, left: Implementation, right: Implementation) -> None:
    """After 545 s of silence the old keys are of no use, and a new handshake is answered.

    suite (keys of left) ── silence until 545 s, echo ───x
                         ── handshake, echo ────────────> right answers
    suite (keys of right) ── the same ──> left
    """
    _age(lab, left, right, (_ERASED_AFTER + 5, False))


def _age(lab: Lab, left: Implementation, right: Implementation, *when: tuple[float, bool]) -> None:
    """Echoes at these ages of a session, and whether they should be answered."""
    both = _speakers(lab, left, right)
    started = time.monotonic()
    for counter, (age, answers) in enumerate(when):
        time.sleep(max(0.0, started + age - time.monotonic()))
        for _, peer, speaker in both:
            answered = speaker.echoes(counter, within=2 if answers else 1)
            verb = "refuses" if answers else "accepts"
            expect(answered == answers, f"{peer.implementation.name} {verb} keys of {age:.0f} s")
    for _, peer, speaker in both:
        name = peer.implementation.name
        expect(speaker.shakes_hands(), f"{name} makes no new session")
        expect(speaker.echoes(0), f"{name} does not answer in the new session")


def _speakers(
    lab: Lab, left: Implementation, right: Implementation
) -> list[tuple[End, End, Speaker]]:
    """Each end in the suite's hands once, in a pair of its own: (its name, the other, the hand).

    The sessions begin at the end of it.
    """
    both = []
    for first, second in ((left, right), (right, left)):
        a, b = tunnel(lab.enter_context(Lab(lab.directory)), first, second)
        assert a.running is not None
        a.running.crash()
        both.append((a, b, Speaker(a, b)))
    for _, b, speaker in both:
        expect(speaker.shakes_hands(), f"{b.implementation.name} does not answer an initiation")
    return both
