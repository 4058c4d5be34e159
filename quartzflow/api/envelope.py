"""The PRD's envelope: {"code": 0, "data": …}; errors come ready-made from quartzflow.api.errors."""

from collections.abc import Mapping
from typing import Any

from rest_framework.renderers import JSONRenderer


class EnvelopeRenderer(JSONRenderer):
    """Wraps what a view answers; an empty answer has `data: null` and the status 200."""

    charset = "utf-8"

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        response = (renderer_context or {}).get("response")
        if response is None or not response.exception:
            data = {"code": 0, "data": data}
        return super().render(data, accepted_media_type, renderer_context)
