"""Logs that a program can read."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from agent.log import set_up
from wgpy.protocol.config import Secret

SECRET = Secret(b"a-key-that-nobody-may-ever-see!!")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    set_up("info", "me", stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, str]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_each_record_is_one_line_of_json(stream: io.StringIO) -> None:
    logging.getLogger("agent.x").warning('two\nlines and a "%s"', "quote")
    logging.getLogger("agent.x").debug("too little")
    told = lines(stream)[-1]
    assert told["message"] == 'two\nlines and a "quote"'
    assert (told["level"], told["logger"]) == ("warning", "agent.x")
    assert told["time"].endswith("+00:00")


def test_a_traceback_is_part_of_its_line_and_keys_are_not(stream: io.StringIO) -> None:
    try:
        raise ValueError(f"not with {SECRET}")
    except ValueError:
        logging.getLogger("agent.x").exception("failed: %s %r", SECRET, SECRET)
    told = lines(stream)[-1]
    assert "ValueError" in told["error"]
    assert "a-key" not in stream.getvalue()


def test_libraries_that_tell_of_every_packet_are_silent(stream: io.StringIO) -> None:
    logging.getLogger("pyroute2.netlink").info("a packet")
    logging.getLogger("aiohttp.access").info("a request")
    assert [line["logger"] for line in lines(stream)] == ["agent"]
