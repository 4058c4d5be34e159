"""Which connection holds which client's session on this bridge: at most one a client id, and the newest wins."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

from .connection import Connection


class Registry:
    """The registered connections by client id."""

    def __init__(self) -> None:
        self.empty = asyncio.Event()
        self.empty.set()
        # Awaited between handfuls of connections that something is written to: the loop has its turn.
        self.turn: Callable[[], Awaitable[None]] = _turn
        self._connections: dict[str, Connection] = {}

    def __len__(self) -> int:
        return len(self._connections)

    def __iter__(self) -> Iterator[Connection]:
        """A snapshot: connections may come and go while one goes through it."""
        return iter(list(self._connections.values()))

    def get(self, client_id: str) -> Connection | None:
        return self._connections.get(client_id)

    def add(self, connection: Connection) -> Connection | None:
        """Enter a registered connection; returns the one that it takes the place of."""
        client_id = connection.session.client_id
        older = self._connections.get(client_id)
        self._connections[client_id] = connection
        self.empty.clear()
        return older

    def remove(self, connection: Connection) -> bool:
        """Take a connection out; False when it was not, or no longer, the client's."""
        client_id = connection.session.client_id
        if self._connections.get(client_id) is not connection:
            return False
        del self._connections[client_id]
        if not self._connections:
            self.empty.set()
        return True


async def _turn() -> None:
    await asyncio.sleep(0)
