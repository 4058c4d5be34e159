"""Pages of tables that have millions of rows: counts that are estimated, and paging that does not count."""

import json
from typing import Any

from django.core.paginator import Page, Paginator
from django.db import connection
from django.db.models import QuerySet
from django.utils.functional import cached_property
from django.utils.translation import gettext as _
from rest_framework.response import Response

from quartzflow.errors import InvalidInput

from .pagination import PagePagination

EXACT = 10_000  # rows up to which a count is exact
DEEPEST = 100_000  # rows that a page may skip: the database reads all of them


class EstimatingPaginator(Paginator):
    """Counts to EXACT; beyond, PostgreSQL's planner says how many there are about, and SQLite counts."""

    @cached_property
    def count(self) -> int:
        return self._counted[0]

    @property
    def is_estimate(self) -> bool:
        return self._counted[1]

    @cached_property
    def _counted(self) -> tuple[int, bool]:
        rows: Any = self.object_list
        exact = rows.order_by().values("pk")[: EXACT + 1].count()
        if exact <= EXACT:
            return exact, False
        if connection.vendor != "postgresql":
            return rows.order_by().count(), False
        return max(_planned(rows), exact), True

    def page(self, number: Any) -> Page:
        # Django's own cuts a page off at the count.
        number = self.validate_number(number)
        begin = (number - 1) * self.per_page
        rows: Any = self.object_list
        return self._get_page(rows[begin : begin + self.per_page], number, self)  # type: ignore[attr-defined,no-any-return]

    def validate_number(self, number: Any) -> int:
        # What lies behind an estimate may be there.
        return int(number) if self.is_estimate else super().validate_number(number)


def _planned(rows: QuerySet[Any]) -> int:
    """How many rows the planner expects."""
    statement, parameters = rows.order_by().values_list("pk", flat=True).query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {statement}", parameters)
        (plan,) = cursor.fetchone()
    plan = json.loads(plan) if isinstance(plan, str) else plan
    return int(plan[0]["Plan"]["Plan Rows"])


class BigTablePagination(PagePagination):
    """{"total", "total_is_estimate", "items"}. Far down, one goes on by ?before=ID of the last row instead of ?page."""

    django_paginator_class = EstimatingPaginator

    def paginate_queryset(self, queryset: Any, request: Any, view: Any = None) -> list[Any] | None:
        skipped = (int(self.get_page_number(request, None)) - 1) * (self.get_page_size(request) or 0)
        if skipped > DEEPEST:
            words = _("Too far down. Go on with before=ID, the id of the last one that you have.")
            raise InvalidInput({"page": [words]})
        return super().paginate_queryset(queryset, request, view)

    def get_paginated_response(self, data: Any) -> Response:
        paginator: Any = self.page.paginator if self.page is not None else None
        total, estimate = (paginator.count, paginator.is_estimate) if paginator else (len(data), False)
        return Response({"total": total, "total_is_estimate": estimate, "items": data})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        whole = super().get_paginated_response_schema(schema)
        words = f"Above {EXACT} rows the total may be the database's estimate."
        whole["properties"]["total_is_estimate"] = {"type": "boolean", "description": words}
        whole["required"] = [*whole["required"], "total_is_estimate"]
        return whole
