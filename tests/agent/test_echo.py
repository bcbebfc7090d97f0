"""What is known of an own object between a write and the news of it."""

from agent.echo import Echo


def test_a_write_is_so_before_the_watch_tells_of_it() -> None:
    echo = Echo[str]()
    assert echo.now(None) is None
    echo.wrote("a")
    assert echo.now(None) == "a"
    echo.wrote("b")
    assert echo.now(None) == "b"
    # Late news of our own.
    assert echo.now("a") == "b"
    assert echo.now("b") == "b"
    assert echo.last == "b"


def test_what_others_write_is_so_as_soon_as_it_is_heard() -> None:
    echo = Echo[str]()
    echo.wrote("a")
    assert echo.now("theirs") == "theirs"
    assert echo.now(None) is None
    echo.wrote("a")
    assert echo.now(None) == "a"
    assert echo.now("a") == "a"
    assert echo.now("theirs") == "theirs"


def test_a_write_that_goes_back_to_what_was_heard_is_not_taken_for_the_one_between() -> None:
    echo = Echo[str]()
    assert echo.now("a") == "a"
    echo.wrote("b")
    echo.wrote("a")
    assert echo.now("a") == "a"
    assert echo.now("b") == "a"
    assert echo.now("a") == "a"
    assert echo.now("theirs") == "theirs"


def test_writing_what_is_there_waits_for_no_news() -> None:
    echo = Echo[str]()
    assert echo.now("a") == "a"
    echo.wrote("a")
    assert echo.now("theirs") == "theirs"
