"""What is known of an own object between a write and the news of it."""

from __future__ import annotations

import pytest

from agent.echo import Echo


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def echo(clock: Clock) -> Echo[str]:
    return Echo[str](clock)


def test_a_write_is_so_before_the_watch_tells_of_it(echo: Echo[str]) -> None:
    assert echo.now is None
    echo.wrote("a")
    assert echo.now == "a"
    echo.wrote("b")
    assert echo.now == "b"
    # Late news of our own.
    echo.hear("a")
    assert echo.now == "b"
    echo.hear("b")
    assert echo.now == "b"
    assert echo.last == "b"


def test_what_others_write_is_so_as_soon_as_it_is_heard(echo: Echo[str]) -> None:
    echo.wrote("a")
    echo.hear("theirs")
    assert echo.now == "theirs"
    echo.hear(None)
    assert echo.now is None
    echo.wrote("a")
    echo.hear("a")
    echo.hear("theirs")
    assert echo.now == "theirs"


def test_an_object_that_is_deleted_before_anybody_looks_is_gone(echo: Echo[str]) -> None:
    echo.wrote("a")
    echo.hear("a")
    echo.hear(None)
    assert echo.now is None


def test_news_may_be_ahead_of_the_answer(echo: Echo[str]) -> None:
    echo.hear("a")
    echo.wrote("a")
    echo.hear(None)
    assert echo.now is None


def test_a_write_that_goes_back_to_what_was_heard_is_not_taken_for_the_one_between(
    echo: Echo[str],
) -> None:
    echo.hear("a")
    echo.wrote("b")
    echo.wrote("a")
    assert echo.now == "a"
    echo.hear("b")
    assert echo.now == "a"
    echo.hear("a")
    assert echo.now == "a"
    echo.hear("theirs")
    assert echo.now == "theirs"


def test_a_write_that_is_never_heard_of_counts_for_a_while_only(
    echo: Echo[str], clock: Clock
) -> None:
    """The watch was cut when somebody deleted it: the next list has as little as the last one."""
    echo.wrote("a")
    clock.now += 29
    assert echo.now == "a"
    clock.now += 2
    assert echo.now is None
