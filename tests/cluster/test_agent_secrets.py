"""No private key, preshared key or token is anywhere that somebody could read it.

One run with everything that handles keys in it (tests.cluster.eventful). Then all that the run has
left is looked through for the keys that were really in use.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
from nacl.bindings import crypto_scalarmult_base

from agent.keys import LaneSecrets
from agent.kube import PUBLISHED
from interop.netns import stop
from interop.shell import CommandFailed, run, wait_until
from tests.cluster.agents import CAPABLE, Agents
from tests.cluster.api import ApiError
from tests.cluster.cluster import Cluster
from tests.cluster.eventful import AuditedControlPlane, Run, live
from tests.cluster.evidence import (
    Processes,
    api_objects,
    core_limit,
    files,
    modes,
    node_files,
    open_files,
)
from tests.cluster.install import install
from tests.cluster.node import ACCOUNT
from tests.cluster.secretscan import Hit, Scanner, clamped, scan_all, signature
from wgpy.protocol.config import Secret

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("cluster")]

_PATIENCE = 90.0


@pytest.fixture(scope="module")
def eventful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with contextlib.ExitStack() as stack:
        plane = stack.enter_context(AuditedControlPlane(tmp_path_factory.mktemp("audited")))
        install(plane.admin)
        directory = tmp_path_factory.mktemp("secrets")
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        # Daemons are told by their launcher's environment.
        patch.setenv("LOG_LEVEL", "debug")
        patch.setenv("TMPDIR", str(directory))
        since = time.time()
        processes = stack.enter_context(Processes())
        cluster = stack.enter_context(Cluster(plane, directory, "secrets", 4))
        stack.enter_context(cluster.capture())
        agents = Agents(cluster, "--keepalive=5s", "--log-level=debug")
        happened = Run(agents, processes, since)
        live(happened)
        yield happened


def test_the_run_had_the_secrets_that_are_looked_for(eventful: Run) -> None:
    """Four nodes with two lanes; three of them with new keys on both; all pairs."""
    names = list(eventful.secrets.values())
    for kind in ("a private key", "a box key"):
        assert len([name for name in names if name.startswith(kind)]) >= 8 + 3 * 2
    assert len([name for name in names if name.startswith("a PSK")]) >= 12 + 2 * 5 + 2 * 3
    assert len([name for name in names if name.startswith("the token")]) == 4


def test_the_box_keys_that_are_looked_for_are_those_of_what_is_published(eventful: Run) -> None:
    private = [key for key, name in eventful.secrets.items() if name.startswith("a box key")]
    public = {b64encode(crypto_scalarmult_base(key)).decode() for key in private}
    for number in eventful.agents.numbers:
        told = eventful.agents.object(number)
        assert told is not None
        assert {lane["boxKey"] for lane in told["spec"]["lanes"]} <= public


def test_no_secret_is_in_anything_that_the_run_has_left(eventful: Run) -> None:
    found = scan_all(eventful.scanner, eventful.everything())
    assert not found, "\n".join(map(str, found))


def test_all_that_could_tell_was_looked_at(eventful: Run) -> None:
    """Each kind of evidence is there, and it is what it is taken for."""
    places = dict(eventful.everything())
    every = b"".join(places.values())
    name = eventful.agents.cluster.nodes[0].name
    for part in (
        "audit.log",
        "kube-apiserver.log",
        "etcd/member/wal",
        "etcd/member/snap/db",
        f"{name}-agent.log",
        f"{name}-dataplane.log",
        ".pcap",
        "10-wgpy.conflist",
        "/api/v1/secrets",
        "/api/v1/events",
        PUBLISHED,
        "what status prints",
        "what doctor prints",
        "what trace",
        "what uninstall prints",
        "/metrics",
    ):
        assert any(part in place and data for place, data in places.items()), part
    # Public keys are where they should be, so that private ones would be found there too.
    public = eventful.keys(1)[0].encode()
    for part in ("audit.log", "etcd/member", PUBLISHED):
        assert any(part in place and public in data for place, data in places.items()), part
    for pid in eventful.keyholders.values():
        for what in ("cmdline", "environ"):
            assert Path(f"/proc/{pid}/{what}").read_bytes() in every
    logs = [data for place, data in places.items() if place.endswith("-agent.log")]
    assert any(b'"level": "debug"' in data for data in logs)
    assert b"publishes a key of node" in every
    # And what they have done is in it.
    for place, said in (
        ("what trace", b"it arrives, and the answer comes back"),
        ("what uninstall prints", b'"lanes: removed"'),
        ("what status prints", b"is made anew"),
        ("what status prints", b"is added again"),
        ("/api/v1/events", b"does not answer on lane 0"),
        (f"{name}-agent.log", b"is added again"),
    ):
        assert any(place in where and said in data for where, data in places.items()), said


def test_who_has_keys_dumps_no_core_and_lets_nobody_look_into_it(eventful: Run) -> None:
    holders = eventful.keyholders
    assert len(holders) == 12
    for what, pid in holders.items():
        assert core_limit(pid) == "0 0", what
        for secret in ("environ", "maps", "mem"):
            with pytest.raises(CommandFailed, match="Permission denied"):
                _peek(pid, secret)


def test_what_the_run_directories_have_is_for_root_alone(eventful: Run) -> None:
    for node in eventful.agents.cluster.nodes:
        for top in ("/run/wgpy", "/run/wireguard"):
            found = modes(node, top)
            assert found, top
            assert not {path: oct(mode) for path, mode in found.items() if mode & 0o077}


def test_a_process_that_is_not_hardened_could_be_looked_into() -> None:
    """So that it is their doing."""
    plain = subprocess.Popen([*CAPABLE, "sleep", "60"])
    try:
        wait_until("it is sleep", lambda: b"sleep" in _argv(plain.pid)[:6], _PATIENCE)
        assert _peek(plain.pid, "environ")
    finally:
        stop(plain)


def _argv(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def _peek(pid: int, what: str) -> str:
    """As a process of the same user with the same capabilities."""
    return run(*CAPABLE, "head", "-c", "1", f"/proc/{pid}/{what}")


def test_what_is_planted_is_found(eventful: Run) -> None:
    """A secret of each kind, in one place after the other; none of them is missed."""
    agents, node = eventful.agents, eventful.agents.cluster.nodes[0]
    key = node.run("wg", "show", "wgpy0", "private-key").strip()
    psk = node.run("wg", "show", "wgpy0", "preshared-keys").split()[1]
    token = node.path(f"{ACCOUNT}/token").read_text()
    box = bytes(LaneSecrets(Secret(b64decode(key))).box_key)
    secrets = [clamped(b64decode(key)), box, b64decode(psk), signature(token)]
    assert set(secrets) <= set(eventful.secrets)

    log = agents.cluster.directory / f"{node.name}-agent.log"
    before = log.stat().st_size
    with log.open("a") as out:
        out.write(json.dumps({"message": f"key {key}, box {list(box)}"}) + "\n")
    node.path("/run/wgpy/planted").write_bytes(b64decode(key))
    event = {
        "metadata": {"name": "planted"},
        "involvedObject": {"kind": "Node", "name": node.name},
        "message": f"PSK {b64decode(psk).hex()}",
    }
    events = "/api/v1/namespaces/default/events"
    agents.admin.create(events, event)
    with tempfile.TemporaryFile() as deleted:
        deleted.write(b64decode(psk))
        deleted.flush()
        talkative = subprocess.Popen(
            ["sh", "-c", "read line", "planted", token],
            env={"PLANTED": b64decode(key).hex()},
            stdin=subprocess.PIPE,
            pass_fds=[deleted.fileno()],
        )
    try:
        processes = Processes()
        wait_until("it runs", lambda: token.encode() in _argv(talkative.pid), _PATIENCE)
        processes.look()
        found = scan_all(
            Scanner(dict(zip(("key", "box", "PSK", "token"), secrets, strict=True))),
            [
                *files(agents.cluster.directory, eventful.since),
                *node_files(node, eventful.since),
                *api_objects(agents.admin),
                *processes.found.items(),
                *open_files(talkative.pid),
            ],
        )
    finally:
        assert talkative.stdin is not None
        talkative.stdin.close()
        stop(talkative)
        node.path("/run/wgpy/planted").unlink()
        with contextlib.suppress(ApiError):
            agents.admin.delete(f"{events}/planted")
        os.truncate(log, before)
    _expect(found, "key", log.name, "base64")
    _expect(found, "box", log.name, "numbers")
    _expect(found, "key", "/run/wgpy/planted", "raw")
    _expect(found, "PSK", events.replace("/namespaces/default", ""), "hex")
    _expect(found, "token", f"/proc/{talkative.pid}/cmdline", "raw")
    _expect(found, "key", f"/proc/{talkative.pid}/environ", "hex")
    _expect(found, "PSK", "(deleted)", "raw")


def _expect(found: list[Hit], secret: str, place: str, form: str) -> None:
    assert any(
        hit.secret == secret and place in hit.place and hit.form.startswith(form) for hit in found
    ), (place, found)
