"""The answer on its way out: the bytes that aiohttp would write, in one piece.

Most of what `web.Response` does for an answer is the same each time (headers put into dictionaries, checked and written out
again), and cost an admission as much as weighing its verdicts. Only for a connection that stays open; whatever else has to be
answered is a `web.Response`.
"""

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"


def is_usable(request: web.BaseRequest) -> bool:
    """Whether this connection takes another request after the answer."""
    return request.version == HttpVersion11 and request.keep_alive


class Reply(web.StreamResponse):
    """200 with a JSON body. Of a response, aiohttp's server uses just these three."""

    def __init__(self, body: bytes) -> None:  # nothing of the base's own state is used
        self.body = body

    @property
    def status(self) -> int:
        """OK: whatever was decided stands in the body."""
        return 200

    @property
    def keep_alive(self) -> bool:
        """The connection stays open."""
        return True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write it. Raises `ConnectionResetError` where nobody is there to read it."""
        if request.transport is None or request.transport.is_closing():
            raise ConnectionResetError("the caller has gone")
        request.transport.write(_HEAD % (len(self.body), self.body))
        self._writer = request.writer
        return self._writer

    async def write_eof(self, data: bytes = b"") -> None:  # noqa: ARG002  as its base
        """It is all written; who reads slowly is waited for."""
        await self._writer.drain()
