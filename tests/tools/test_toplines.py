"""What `wgpy top` shows, from two samples."""

from dataclasses import replace

from wgpy.protocol.config import Endpoint, InterfaceStats, PeerStats
from wgpy.tools.toplines import Sample, age_text, fit, lines

WALL = 1_800_000_000
QUIET = PeerStats(
    bytes(32), endpoint=Endpoint("192.0.2.1", 5), last_handshake_ns=(WALL - 65) * 10**9
)
BUSY = PeerStats(b"\xff" * 32, rx_bytes=1000, tx_bytes=500, drops={"bad-source": 2})


def sample(at: float, *peers: PeerStats, drops: dict[str, int] | None = None) -> Sample:
    stats = InterfaceStats(listen_port=51820, peers=peers, drops=drops or {})
    return Sample(at, WALL, {"wg0": stats}, {"wg0": {"tx_dropped": 0}}, {})


def test_rates_are_bits_in_a_second_and_the_busiest_peer_is_first() -> None:
    later = replace(BUSY, rx_bytes=1000 + 250_000, tx_bytes=500 + 25)
    shown = lines(sample(10, QUIET, BUSY), sample(12, QUIET, later), 80)
    assert shown == [
        "wg0, port 51820: 1.0 Mbit/s received, 100 bit/s sent",
        "PEER            RECEIVED       SENT  HANDSHAKE  ENDPOINT     DROPS",
        "////////////  1.0 Mbit/s  100 bit/s      never  -            bad-source 2",
        "AAAAAAAAAAAA     0 bit/s    0 bit/s      1m 5s  192.0.2.1:5",
    ]


def test_a_wide_line_and_plain_text_have_the_whole_key() -> None:
    for width in (None, 120):
        assert "A" * 43 + "=" in lines(sample(0, QUIET), sample(1, QUIET), width)[2]


def test_no_line_is_wider_than_the_terminal() -> None:
    drops = {f"reason-{number}": 5 for number in range(20)}
    shown = lines(sample(0, QUIET), sample(1, QUIET, drops=drops), 40)
    assert max(map(len, shown)) == 40


def test_what_was_not_there_before_has_no_rate() -> None:
    shown = lines(sample(0), sample(1, BUSY), 80)
    assert shown[0] == "wg0, port 51820: - received, - sent"
    assert shown[2].split() == ["////////////", "-", "-", "never", "-", "bad-source", "2"]


def test_counters_that_begin_anew_have_no_rate() -> None:
    shown = lines(sample(0, BUSY), sample(1, replace(BUSY, rx_bytes=1)), 80)
    assert shown[2].split()[1:4] == ["-", "0", "bit/s"]


def test_two_looks_at_one_moment_are_no_division_by_zero() -> None:
    only = sample(7, BUSY, drops={"no-route": 1})
    assert lines(only, only, 80)[1:] == [
        "drops: no-route 1",
        "PEER          RECEIVED  SENT  HANDSHAKE  ENDPOINT  DROPS",
        "////////////         -     -      never  -         bad-source 2",
    ]


def test_drops_are_told_by_reason_the_most_frequent_first_with_their_growth() -> None:
    before = sample(0, drops={"no-route": 10, "bad-tag": 40})
    now = sample(2, drops={"no-route": 16, "bad-tag": 40, "replayed": 0, "bad-mac1": 8})
    assert lines(before, now)[1] == "drops: bad-tag 40, no-route 16 (+3/s), bad-mac1 8 (+4/s)"


def test_a_plane_that_tells_no_reasons_has_the_counters_of_its_link() -> None:
    before, now = sample(0), sample(1)
    before.links["wg0"]["tx_dropped"], now.links["wg0"]["tx_dropped"] = 1, 3
    assert lines(before, now)[1] == "drops: tx_dropped 3 (+2/s)"


def test_drops_of_an_interface_that_is_new_have_no_growth() -> None:
    before = Sample(0, WALL, {}, {}, {})
    assert lines(before, sample(1, drops={"no-route": 9}))[1] == "drops: no-route 9"


def test_an_interface_that_cannot_be_read_says_why_beside_the_others() -> None:
    now = sample(1)
    now.failures["wg1"] = "wg1: not permitted"
    assert lines(sample(0), now)[-2:] == ["", "wg1: not permitted"]
    assert lines(Sample(0, WALL, {}, {}, {}), Sample(1, WALL, {}, {}, {})) == [
        "no WireGuard interface"
    ]


def test_a_screen_that_is_too_small_says_how_much_is_missing() -> None:
    assert fit(["a", "b", "c"], 3) == ["a", "b", "c"]
    assert fit(["a", "b", "c"], 2) == ["a", "... 2 lines more"]
    assert fit(["a", "b"], 1) == ["... 2 lines more"]
    assert fit(["a"], 0) == []


def test_ages_have_two_units() -> None:
    for seconds, text in {
        0: "0s",
        59: "59s",
        60: "1m",
        3600 + 61: "1h 1m",
        86400 * 3 + 59: "3d",
        -1: "in the future",
    }.items():
        assert age_text(seconds) == text
