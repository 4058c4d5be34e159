"""Pages of the API: ?page=1&page_size=20, answered as {"total": …, "items": […]}."""

from typing import Any

from rest_framework.pagination import PageNumberPagination
from rest_framework.response import Response


class PagePagination(PageNumberPagination):
    """PRD §8: page from 1, page_size 20, at most 200."""

    page_size = 20
    page_size_query_param = "page_size"
    max_page_size = 200

    def get_paginated_response(self, data: Any) -> Response:
        total = self.page.paginator.count if self.page is not None else len(data)
        return Response({"total": total, "items": data})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "object",
            "required": ["total", "items"],
            "properties": {"total": {"type": "integer"}, "items": schema},
        }
