import copy
import json
from base64 import b64encode
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import (
    LaneKeys,
    ModelError,
    NodeFacts,
    WireGuardNode,
)

PUBLISHED = WireGuardNode(
    name="node-1",
    lanes=(
        LaneKeys(b"a" * 32, b"b" * 32, 51871, 3),
        LaneKeys(b"c" * 32, b"d" * 32, 51872, 4),
    ),
    active_lane=1,
    endpoints=(ip_address("192.0.2.1"), ip_address("2001:db8::1")),
    backend="kernel",
    agent_version="0.1",
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def test_what_is_published_reads_back() -> None:
    written = json.loads(json.dumps(PUBLISHED.to_object("uid-1")))
    assert WireGuardNode.from_object_untrusted(written) == PUBLISHED
    assert written["metadata"]["ownerReferences"][0]["uid"] == "uid-1"


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (("spec", "lanes"), [], "spec.lanes has 0 entries"),
        (("spec", "lanes", 0, "publicKey"), "AAAA", "spec.lanes[0].publicKey is no key"),
        (("spec", "lanes", 1, "boxKey"), b64encode(bytes(32)).decode(), "lanes[1].boxKey is no"),
        (("spec", "lanes", 1, "port"), 65536, "spec.lanes[1].port is no number"),
        (("spec", "lanes", 1, "epoch"), True, "spec.lanes[1].epoch is no number"),
        (("spec", "lanes", 1, "publicKey"), b64encode(b"a" * 32).decode(), "one and the same key"),
        (("spec", "activeLane"), 2, "spec.activeLane is no number from 0 to 1"),
        (("spec", "endpoints"), ["0.0.0.0"], "nobody can send to"),
        (("spec", "endpoints"), ["fe80::1%eth0"], "nobody can send to"),
        (("spec", "endpoints"), ["192.0.2.1"] * 17, "more than 16"),
        (("spec", "suite"), 3, "spec.suite is 3, only 2 is known here"),
        (("spec", "backend"), "x" * 65, "spec.backend is no text"),
        (("metadata", "name"), "../etc", "metadata.name is no name"),
    ],
)
def test_an_object_that_is_wrong_is_refused_with_the_place(
    path: tuple[Any, ...], value: object, complaint: str
) -> None:
    written = copy.deepcopy(PUBLISHED.to_object("uid-1"))
    place: Any = written
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(ModelError) as caught:
        WireGuardNode.from_object_untrusted(written)
    assert complaint in str(caught.value)


@given(spec=st.dictionaries(st.sampled_from(sorted(PUBLISHED.spec())), JSON))
def test_any_json_is_read_or_refused(spec: dict[str, Any]) -> None:
    written = PUBLISHED.to_object("uid-1")
    written["spec"].update(spec)
    try:
        read = WireGuardNode.from_object_untrusted(written)
    except ModelError:
        return
    assert WireGuardNode.from_object_untrusted(read.to_object("uid-1")) == read


def test_a_node_gives_its_prefixes_addresses_and_annotation() -> None:
    facts = NodeFacts.from_object_untrusted(
        {
            "metadata": {
                "name": "node-1",
                "uid": "u",
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "annotations": {"wgpy.io/rotate": "7"},
            },
            "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00:1::/64"]},
            "status": {
                "addresses": [
                    {"type": "Hostname", "address": "node-1"},
                    {"type": "InternalIP", "address": "192.0.2.1"},
                ]
            },
        }
    )
    assert facts.pod_cidrs == (ip_network("10.244.1.0/24"), ip_network("fd00:1::/64"))
    assert facts.internal_ips == (ip_address("192.0.2.1"),)
    assert facts.rotate == "7"


def test_a_node_without_prefixes_has_none_and_a_bad_one_is_refused() -> None:
    node: dict[str, Any] = {"metadata": {"name": "node-1", "uid": "u"}}
    assert NodeFacts.from_object_untrusted(node).pod_cidrs == ()
    node["spec"] = {"podCIDRs": ["10.244.1.1/24"]}
    with pytest.raises(ModelError, match="spec.podCIDRs"):
        NodeFacts.from_object_untrusted(node)
