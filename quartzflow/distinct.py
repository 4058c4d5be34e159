"""The different values of an indexed column, without reading the table."""

from typing import Any

from django.db import connection
from django.db.models import Model


def distinct_values(model: type[Model], column: str) -> list[Any]:
    """In order, null left out. One step in the index per value: the column must be an index's first, and have few.

    Neither database does that for a SELECT DISTINCT: a million entries of twenty people are read one by one.
    """
    quote = connection.ops.quote_name
    table, column = quote(model._meta.db_table), quote(column)
    statement = (
        f"WITH RECURSIVE found(value) AS (SELECT min({column}) FROM {table} UNION ALL"  # noqa: S608 - names of ours
        f" SELECT (SELECT min({column}) FROM {table} WHERE {column} > found.value) FROM found"
        " WHERE found.value IS NOT NULL) SELECT value FROM found WHERE value IS NOT NULL"
    )
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return [value for (value,) in cursor.fetchall()]
