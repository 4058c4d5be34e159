"""Pages of the API: ?page=1&page_size=20, answered as {"total": …, "items": […]}."""

import re
from typing import Any

from django.utils.translation import gettext as _
from rest_framework.pagination import PageNumberPagination
from rest_framework.request import Request
from rest_framework.response import Response

from quartzflow.declared_settings import PAGE_SIZE
from quartzflow.errors import InvalidInput

MAX_PAGE = 2**31 - 1  # as a number in the description; what is beyond the last page is not found


class PagePagination(PageNumberPagination):
    """PRD §8: page from 1, page_size 20 (a system setting), at most 200."""

    page_size = 20  # the setting's default, for the description
    page_size_query_param = "page_size"
    max_page_size = 200

    def get_page_number(self, request: Request, paginator: Any) -> int:
        """Raises InvalidInput for what is no number; a page that is not there is not found."""
        text = request.query_params.get("page", "1")
        if not re.fullmatch(r"[1-9]\d{0,9}", text, re.ASCII):
            raise InvalidInput({"page": [_("Must be a whole number.")]})
        return int(text)

    def get_page_size(self, request: Request) -> int | None:
        """Raises InvalidInput: whoever asks for a thousand should not take two hundred for all."""
        text = request.query_params.get("page_size", str(PAGE_SIZE.value))
        if not re.fullmatch(r"[1-9]\d{0,3}", text, re.ASCII) or int(text) > self.max_page_size:
            raise InvalidInput(
                {"page_size": [_("A number from 1 to %(limit)s.") % {"limit": self.max_page_size}]}
            )
        return int(text)

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        return [
            {
                "name": "page",
                "in": "query",
                "description": "From 1. A page that does not exist answers 404.",
                "schema": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 1},
            },
            {
                "name": "page_size",
                "in": "query",
                "schema": {
                    "type": "integer", "minimum": 1, "maximum": self.max_page_size, "default": self.page_size,
                },
            },
        ]  # fmt: skip

    def get_paginated_response(self, data: Any) -> Response:
        total = self.page.paginator.count if self.page is not None else len(data)
        return Response({"total": total, "items": data})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "object",
            "required": ["total", "items"],
            "properties": {"total": {"type": "integer", "minimum": 0}, "items": schema},
        }
