"""Bulk statements that the ORM lacks.

`bulk_update` builds a CASE per row and column: measured at 1,640 rows/s on PostgreSQL against 15,000 for
`UPDATE … FROM (VALUES …)`, which SQLite (3.33+) understands too.
"""

from collections.abc import Sequence
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, models


def update_from_values(
    model: type[models.Model],
    *,
    key: Sequence[str],
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    where: str = "",
    returning: Sequence[str] = (),
    chunk: int = 200,
) -> list[tuple]:
    """Set `columns` of the rows found by `key`, one statement a chunk.

    Each row of `rows` holds the key's values, then the columns'. `where` is a fixed further condition in SQL that may
    name the table's columns as `t.` and the new values as `v.`: it must never hold anything from outside.
    With `returning`, the named fields of the rows that did change come back.
    """
    connection = connections[DEFAULT_DB_ALIAS]
    meta: Any = model._meta
    fields = [meta.get_field(name) for name in (*key, *columns)]
    quote = connection.ops.quote_name
    names = [field.column for field in fields]
    sets = ", ".join(f"{quote(name)} = v.{quote(name)}" for name in names[len(key) :])
    match = " AND ".join(f"t.{quote(name)} = v.{quote(name)}" for name in names[: len(key)])
    table = quote(meta.db_table)
    # SQLite does not know the alias there; PostgreSQL needs it where both sides have the name.
    prefix = "t." if connection.vendor == "postgresql" else ""
    changed: list[tuple] = []
    for start in range(0, len(rows), chunk):
        new, parameters = _rows(connection, fields, rows[start : start + chunk])
        sql = (
            f"WITH v({', '.join(map(quote, names))}) AS ({new})"  # noqa: S608 - names from the model
            f" UPDATE {table} AS t SET {sets} FROM v WHERE {match}"
        )
        if where:
            sql += f" AND ({where})"
        if returning:
            sql += " RETURNING " + ", ".join(
                f"{prefix}{quote(meta.get_field(name).column)}" for name in returning
            )
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            if returning:
                changed += cursor.fetchall()
    return changed


def insert_new(
    model: type[models.Model], objects: Sequence[models.Model], *, conflict: str, chunk: int = 200
) -> dict[Any, int]:
    """Insert the rows that are not there yet (ON CONFLICT (`conflict`) DO NOTHING).

    Returns the value of `conflict` → primary key of the rows that are new, which `bulk_create` cannot tell.
    """
    connection = connections[DEFAULT_DB_ALIAS]
    meta: Any = model._meta
    quote = connection.ops.quote_name
    fields = [field for field in meta.concrete_fields if not field.primary_key]
    names = ", ".join(quote(field.column) for field in fields)
    key, pk = meta.get_field(conflict).column, meta.pk.column
    new: dict[Any, int] = {}
    for start in range(0, len(objects), chunk):
        part = objects[start : start + chunk]
        values, parameters = _rows(
            connection, fields, [[field.pre_save(obj, True) for field in fields] for obj in part]
        )
        sql = (
            f"INSERT INTO {quote(meta.db_table)} ({names}) {values}"
            f" ON CONFLICT ({quote(key)}) DO NOTHING RETURNING {quote(key)}, {quote(pk)}"
        )
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            new.update(cursor.fetchall())
    return new


def _rows(connection: Any, fields: Sequence[Any], rows: Sequence[Sequence[Any]]) -> tuple[str, list[Any]]:
    """SQL that yields `rows` with the types of `fields`, and its parameters.

    `connection` is not Django's proxy, which every value would ask several things.
    """
    columns = [
        [field.get_db_prep_save(value, connection) for value in column]
        for field, column in zip(fields, zip(*rows, strict=True), strict=True)
    ]
    if connection.vendor == "postgresql":
        # An array for each column: as rows, 18,000 values took its driver 50 ms to put into one text.
        types = [
            field.rel_db_type(connection) if field.is_relation else field.cast_db_type(connection)
            for field in fields
        ]
        return "SELECT * FROM unnest(" + ", ".join(f"CAST(%s AS {type_}[])" for type_ in types) + ")", columns  # noqa: S608 - types of the model
    row = "(" + ", ".join(["%s"] * len(fields)) + ")"
    parameters = [value for values in zip(*columns, strict=True) for value in values]
    return "VALUES " + ", ".join([row] * len(rows)), parameters
