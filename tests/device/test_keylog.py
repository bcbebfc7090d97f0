"""A key log has what a dissector needs, and nobody else can open it."""

import logging
import os
import stat
from base64 import b64decode
from pathlib import Path

import pytest

from tests.sim import A4, B4, pair
from wgpy.device.keylog import KeyLog
from wgpy.protocol.config import InterfaceChange, PeerChange, Secret
from wgpy.protocol.noise import Identity

EPHEMERAL_AT = {1: 8, 2: 12}


def entries(path: Path) -> list[tuple[str, bytes]]:
    """The lines of a key log: name, key."""
    words = [line.split(" = ") for line in path.read_text().splitlines()]
    return [(name, b64decode(value, validate=True)) for name, value in words]


@pytest.mark.parametrize("kind", [1, 2])
def test_each_side_of_a_handshake_logs_the_private_half_of_what_it_sent(
    kind: int, tmp_path: Path
) -> None:
    wire, alice, bob = pair()
    node, other = (alice, bob) if kind == 1 else (bob, alice)
    log = KeyLog(str(tmp_path / "keys"))
    node.interface.tell_secrets(log.write)
    assert alice.ping(bob, A4, B4)
    (local, remote, ephemeral) = entries(tmp_path / "keys")
    assert local == ("LOCAL_STATIC_PRIVATE_KEY", node.private_key)
    assert remote == ("REMOTE_STATIC_PUBLIC_KEY", other.public_key)
    assert ephemeral[0] == "LOCAL_EPHEMERAL_PRIVATE_KEY"
    at = EPHEMERAL_AT[kind]
    (sent,) = (d.payload[at : at + 32] for d in wire.log if d.type == kind)
    assert Identity(Secret(ephemeral[1])).public == sent
    log.close()


def test_a_preshared_key_follows_the_ephemeral_key_that_it_belongs_to(tmp_path: Path) -> None:
    _, alice, bob = pair()
    psk = Secret(b"p" * 32)
    for node, other in ((alice, bob), (bob, alice)):
        peer = PeerChange(other.public_key, preshared_key=psk)
        node.configure(InterfaceChange(peers=(peer,)))
    log = KeyLog(str(tmp_path / "keys"))
    alice.interface.tell_secrets(log.write)
    assert alice.ping(bob, A4, B4)
    names = [name for name, _ in entries(tmp_path / "keys")]
    assert names[-2:] == ["LOCAL_EPHEMERAL_PRIVATE_KEY", "PRESHARED_KEY"]
    assert entries(tmp_path / "keys")[-1][1] == psk
    log.close()


def test_the_file_is_for_its_owner_alone_and_grows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys"
    old = os.umask(0)
    try:
        with caplog.at_level(logging.WARNING):
            KeyLog(str(path)).close()
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert str(path) in caplog.text and "ALL KEYS" in caplog.text
    path.write_text("before\n")
    KeyLog(str(path)).close()
    assert path.read_text() == "before\n"


def test_a_file_that_others_can_open_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.touch()
    path.chmod(0o640)
    with pytest.raises(ValueError, match="nobody else can open"):
        KeyLog(str(path))
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        KeyLog(str(link))
    assert not (tmp_path / "elsewhere").exists()


def test_a_full_disk_ends_the_log_and_not_the_interface(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, alice, bob = pair()
    log = KeyLog(str(tmp_path / "keys"))
    alice.interface.tell_secrets(log.write)

    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        assert alice.ping(bob, A4, B4)
    assert "the key log ends here" in caplog.text
    assert (tmp_path / "keys").read_text() == ""


def test_without_being_asked_nobody_is_told() -> None:
    _, alice, _ = pair()
    assert alice.interface._shared.tell_secrets is None
