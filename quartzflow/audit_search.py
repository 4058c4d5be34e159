"""Finding entries of an audit log that has millions of them.

The newest come first, so an index helps that has them in the order of their numbers; where a stretch of time is asked
for, in that of their times. Parts of texts are found by trigrams, where the database has them.
"""

import re
from collections.abc import Sequence

import structlog
from django.db import ProgrammingError, connection, transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from .distinct import distinct_values
from .models import AuditEntry
from .trigrams import has_trigrams

log = structlog.get_logger(__name__)

INDEX = "idx_audit_search"
COLUMNS = ("object_name", "actor_name", "address", "request_id")  # that the console's search looks at
# As Django writes icontains, istartswith and iexact for PostgreSQL.
SQL = f"CREATE INDEX IF NOT EXISTS {INDEX} ON tb_audit_log USING gin (" + (
    # Entries are few at a time, and a list of those that are not in the index yet makes searching slow.
    ", ".join(f"upper({column}::text) gin_trgm_ops" for column in COLUMNS) + ") WITH (fastupdate = off)"
)
# What has trigrams: three letters or digits in a row, or any between two other characters.
TRIGRAM = r"[^\W_]{3}|[\W_][^\W_]+[\W_]"
LOOKED_AT = 200_000  # entries, the newest, where there is no index
BY_NUMBER = ("-id",)
# By number, a day long ago would be looked for among all newer entries.
BY_TIME = ("-at", "-id")


def prepare() -> None:
    """Make the index, as far as the database allows. By the migration."""
    if connection.vendor == "postgresql" and has_trigrams():
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(SQL)
        except ProgrammingError as error:  # not the table's owner, say
            log.warning("audit log is searched without an index", error=str(error))


def remove() -> None:
    """Drop the index; for going back before the migration."""
    with connection.cursor() as cursor:
        cursor.execute(f"DROP INDEX IF EXISTS {INDEX}")


def looked_at(
    rows: QuerySet[AuditEntry], text: str, order: Sequence[str] = BY_NUMBER
) -> tuple[QuerySet[AuditEntry], bool]:
    """The entries among which a text is looked for, and whether there are older ones which are left out.

    All of them where an index finds it; else the newest LOOKED_AT, from the newest one of `rows`, in `order`, on.
    """
    newest = None if _is_indexed(text) else rows.order_by(*order).values_list("pk", flat=True).first()
    if newest is None or newest <= LOOKED_AT:
        return rows, False
    edge = newest - LOOKED_AT
    return rows.filter(pk__gt=edge), rows.filter(pk__lte=edge).exists()


def not_all() -> str:
    """Why an export of what `looked_at` leaves out is refused: a part would look like all."""
    return _("Older entries than the newest %(count)s are not searched here: choose the days.") % {
        "count": LOOKED_AT
    }


def _is_indexed(text: str) -> bool:
    if connection.vendor != "postgresql":
        return False
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT to_regclass(%s), datctype FROM pg_database WHERE datname = current_database()", [INDEX]
        )
        index, letters = cursor.fetchone()
    # A database without a language knows the letters of English only.
    flags = re.ASCII if letters in ("C", "POSIX") else re.NOFLAG
    # One word of several is enough: the others are looked for in what it leaves.
    return index is not None and any(re.search(TRIGRAM, word, flags) for word in text.split())


def by_action(rows: QuerySet[AuditEntry], action: str) -> QuerySet[AuditEntry]:
    """Of `rows` those of an action, or, where it ends with a dot, of all that begin so."""
    if not action.endswith("."):
        return rows.filter(action=action)
    # There are a hundred at most; no index knows beginnings in every collation.
    known = [name for name in distinct_values(AuditEntry, "action") if name.startswith(action)]
    return rows.filter(action__in=known)
