"""A client for HTTP/1.1, as small as can be: what a load generator needs, and nothing that slows it down."""

import asyncio
from dataclasses import dataclass
from time import perf_counter

END_OF_HEAD = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response.

    Attributes:
        status: The status code.
        head: The status line and the headers, in lower case.
        body: The body.
        took_s: Seconds from the request's last byte to the response's last one.
    """

    status: int
    head: bytes
    body: bytes
    took_s: float


class Connection(asyncio.Protocol):
    """One connection: a request, its answer, the next request.

    Attributes:
        n_unasked: Bytes that came when nothing was asked.
    """

    def __init__(self) -> None:
        self.n_unasked = 0
        self._received = bytearray()
        self._answer: asyncio.Future[Answer] | None = None
        self._transport: asyncio.Transport | None = None
        self._asked_s = 0.0

    @classmethod
    async def open(cls, port: int) -> "Connection":
        """Connect to a port of this machine."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    async def get(self, path: str) -> Answer:
        """Ask, and wait for the answer; ConnectionError if the server closes before it is whole."""
        self.ask(path)
        assert self._answer is not None
        try:
            return await self._answer
        finally:
            self._answer = None

    def ask(self, path: str) -> None:
        """Send a request, and wait for nothing."""
        if not self.is_open:
            raise ConnectionResetError("closed before the request")
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        self._asked_s = perf_counter()

    @property
    def is_open(self) -> bool:
        """Whether a request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        """Close in good order, whatever was asked."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Go away at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take in a part of an answer."""
        now_s = perf_counter()
        if self._answer is None or self._answer.done():
            self.n_unasked += len(data)
            return
        self._received += data
        head_size = self._received.find(END_OF_HEAD)
        if head_size < 0:
            return
        head = bytes(self._received[:head_size]).lower()
        size = head_size + len(END_OF_HEAD) + _length(head)
        if len(self._received) >= size:
            body = bytes(self._received[head_size + len(END_OF_HEAD) : size])
            self.n_unasked += len(self._received) - size
            self._received.clear()
            self._answer.set_result(Answer(int(head[9:12]), head, body, now_s - self._asked_s))

    def connection_lost(self, error: Exception | None) -> None:
        """Tell who waits."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("closed before the answer"))
            self._answer.exception()  # nobody need wait for it


class Client:
    """As many connections as there are requests at a time, kept for later ones.

    Args:
        port: Where the server listens.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: list[Connection] = []
        self._all: list[Connection] = []

    async def open(self, n_connections: int) -> None:
        """Connect beforehand, so often."""
        for _ in range(n_connections):
            self._free.append(await self._connect())

    async def get(self, path: str) -> Answer:
        """Ask on a connection that is free, or on a new one."""
        connection = await self._connection()
        answer = await connection.get(path)
        self._free.append(connection)
        return answer

    @property
    def n_unasked(self) -> int:
        """Bytes that came when nothing was asked."""
        return sum(connection.n_unasked for connection in self._all)

    def close(self) -> None:
        """Close all connections."""
        for connection in self._all:
            connection.close()

    async def _connection(self) -> Connection:
        while self._free:
            connection = self._free.pop()
            if connection.is_open:
                return connection
        return await self._connect()

    async def _connect(self) -> Connection:
        connection = await Connection.open(self._port)
        self._all.append(connection)
        return connection


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0
