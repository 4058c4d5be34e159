"""Locks by name until the end of the transaction. SQLite has one writer anyway, so there they are nothing."""

import hashlib
from collections.abc import Iterable

from django.db import connection

# Who moves hosts, or binds tasks to other groups, holds it alone; who chooses hosts for a firing shares it. So no row
# is made for a host that a move at the same moment has taken away: the move waits, and then sees and cancels it.
PLACEMENT = "placement"


def lock(*name: object) -> None:
    """Wait until nobody else holds the lock of this name."""
    lock_all([name])


def share(*name: object) -> None:
    """Wait until nobody holds the lock of this name alone; any number may share it."""
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock_shared(%s)", [_key(name)])


def lock_all(names: Iterable[tuple[object, ...]]) -> None:
    """Several locks, taken in one order everywhere, so that nobody waits in a circle."""
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        for key in sorted({_key(name) for name in names}):
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [key])


def _key(name: tuple[object, ...]) -> int:
    digest = hashlib.blake2b(repr(name).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
