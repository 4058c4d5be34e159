"""PostgreSQL's trigrams: indexes by which a part of a text is found."""

import structlog
from django.db import OperationalError, ProgrammingError, connection, transaction

log = structlog.get_logger(__name__)


def has_trigrams() -> bool:
    """Whether the extension pg_trgm is there, or could be made. On PostgreSQL only."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT installed_version FROM pg_available_extensions WHERE name = 'pg_trgm'")
        row = cursor.fetchone()
    if row is None or row[0] is not None:
        return row is not None
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    except (ProgrammingError, OperationalError) as error:
        log.warning("no search by parts of words: pg_trgm cannot be made", error=str(error))
        return False
    return True
