"""What a human reads."""

from __future__ import annotations

from dataclasses import replace

from agent.status import render
from tests.agent.snapshots import snapshot


def test_status_tells_peers_lanes_drift_and_what_to_do() -> None:
    assert render(snapshot().to_object()) == (
        "node me: wgpy 1.0, userspace data plane\n"
        "peers: 1 of 2 can be reached\n"
        "lane 0: port 51871, epoch 1, active\n"
        "lane 1: port 51872, epoch 2, DOWN\n"
        "rotation: drain, waiting for far\n"
        "API server: no connection; traffic goes on as it is\n"
        "\n"
        "PEER  READY  LANE  HANDSHAKE  RECEIVED  SENT   ENDPOINT\n"
        "far   NO     0*    8m ago     0 B       0 B    unknown\n"
        "near  yes    0*    7s ago     2.0 KiB   100 B  [fd00::1]:51871\n"
        "\n"
        "dropped: pod_spoof 3\n"
        "\n"
        "drift:\n"
        "  route 10.1.0.0/24 was missing\n"
        "\n"
        "problems:\n"
        "  warning: node far is silent\n"
        "    -> look at it\n"
    )


def test_a_peer_on_no_lane_is_told_too() -> None:
    far, _ = snapshot().peers
    told = replace(snapshot(), peers=(replace(far, lanes=(), route=None),))
    assert "far   NO     -     never      -         -     -\n" in render(told.to_object())


def test_a_node_alone_needs_no_table() -> None:
    assert "PEER" not in render(replace(snapshot(), peers=()).to_object())
