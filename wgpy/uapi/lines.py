"""Lines of a UAPI connection, within limits, without holding up the event loop."""

import asyncio
from errno import EINVAL, EIO

from wgpy.uapi.text import UapiError

# A request of 10,000 peers and 100,000 allowed IPs takes about 7 MB.
REQUEST_LIMIT = 64 * 1024 * 1024
# The longest line that means anything is shorter than 150 bytes.
LINE_LIMIT = 4096
# Lines are parsed in runs of this many bytes, about a millisecond each, between turns of the loop.
_READ_SIZE = 8 * 1024


class LineReader:
    """The requests of one connection, line by line and without line ends."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._partial = b""
        # Complete lines, the next one last.
        self._lines: list[bytes] = []
        self._ended = False
        self._in_request = False
        self._request_size = 0

    async def begin(self) -> str | None:
        """The first line of the next request; None when the client has no more. UapiError."""
        self._request_size = 0
        while not self._lines and not self._ended:
            await self._read()
        if not self._lines and not self._partial:
            return None
        self._in_request = True
        return await self.next()

    async def next(self) -> str:
        """The next line of this request, empty at its end.

        UapiError EIO if the stream ends before, EINVAL if the line or the request is too long:
        nothing can be read any more then.
        """
        while not self._lines:
            if self._ended:
                raise UapiError(EIO, "the request ended before its empty line")
            if len(self._partial) > LINE_LIMIT:
                raise self._too_long("line", LINE_LIMIT)
            await self._read()
        line = self._lines.pop()
        self._request_size += len(line) + 1
        if len(line) > LINE_LIMIT:
            raise self._too_long("line", LINE_LIMIT)
        if self._request_size > REQUEST_LIMIT:
            raise self._too_long("request", REQUEST_LIMIT)
        self._in_request = bool(line)
        # Whatever the bytes are, they become characters that a parser can refuse.
        return line.decode("latin-1")

    def _too_long(self, what: str, limit: int) -> UapiError:
        self._lines.clear()
        self._ended = True
        return UapiError(EINVAL, f"a {what} is longer than {limit} bytes")

    async def skip_request(self) -> bool:
        """Pass over what is left of a refused request; False if the next one cannot be found."""
        try:
            while self._in_request:
                await self.next()
        except UapiError:
            return False
        return True

    async def _read(self) -> None:
        data = await self._reader.read(_READ_SIZE)
        # What is buffered is read without waiting: let others have their turn.
        await asyncio.sleep(0)
        if not data:
            self._ended = True
            return
        *lines, self._partial = (self._partial + data).split(b"\n")
        self._lines = lines[::-1]
