"""GET /api/v1/logs/search: a text in the outputs of executions."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from executions_app import log_search, log_search_index
from executions_app.log_search import Hit
from executions_app.models import Execution
from quartzflow.api.fields import UtcDateTimeField
from quartzflow.api.requests import user_of
from quartzflow.execution_status import ExecutionStatus


class LineSerializer(serializers.Serializer[Any]):
    where = serializers.ChoiceField(choices=["output", "error"])
    line = serializers.IntegerField(min_value=1)
    text = serializers.CharField(help_text="Long lines are cut around the first place, with … where.")
    marks = serializers.ListField(
        child=serializers.ListField(child=serializers.IntegerField(min_value=0), min_length=2, max_length=2),
        help_text="From and to of each place in `text`, in characters.",
    )


class HitSerializer(serializers.Serializer[Any]):
    execution_id = serializers.IntegerField(help_text="The execution's number: /executions/ID.")
    task_id = serializers.IntegerField()
    task_name = serializers.CharField()
    client_id = serializers.CharField(allow_blank=True)
    status = serializers.ChoiceField(choices=ExecutionStatus.choices)
    scheduled_time = UtcDateTimeField()
    count = serializers.IntegerField(min_value=0, help_text="Places in the output.")
    lines = LineSerializer(many=True, help_text="The first lines that have some.")


class IndexSerializer(serializers.Serializer[Any]):
    mode = serializers.ChoiceField(
        choices=[mode.value for mode in log_search_index.Mode],
        help_text="trigrams: any part of a line; words: whole words; none: only the newest outputs are searched.",
    )
    waiting = serializers.IntegerField(min_value=0, help_text="Outputs that are not in it yet.")


class FoundSerializer(serializers.Serializer[Any]):
    items = HitSerializer(many=True)
    further = serializers.IntegerField(allow_null=True, help_text="Go on with before=…; null: that was all.")
    reached = UtcDateTimeField(
        allow_null=True, help_text="How far back one has looked, where `further` is not after a whole page."
    )
    took_too_long = serializers.BooleanField(help_text="The time was up before all was searched.")
    index = IndexSerializer()


class LogSearchView(APIView):
    """Search through outputs."""

    serializer_class = FoundSerializer

    @extend_schema(
        parameters=[
            OpenApiParameter(
                "q", {"type": "string", "minLength": log_search.SHORTEST, "maxLength": log_search.LONGEST},
                required=True,
                description="The text, upper or lower case alike. Two characters are looked for among the newest only.",
            ),
            OpenApiParameter("from", {"type": "string", "format": "date-time"}, description="By scheduled time."),
            OpenApiParameter("to", {"type": "string", "format": "date-time"}, description="Not included."),
            OpenApiParameter("task", str, description="A task's id, or a part of its name."),
            OpenApiParameter("client", str, description="A host's name, or a part of it."),
            OpenApiParameter("status", str, description="A code, a name such as failure, or bad: failed or timed out."),
            OpenApiParameter("before", {"type": "integer", "minimum": 1}, description="`further` of the page before."),
        ],
        responses=FoundSerializer,
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        """Newest first, of executions whose logs one may read. 503 with code 1016: narrow it."""
        wanted = log_search.check_wanted(request.query_params.dict())
        found = log_search.search(user_of(request), wanted)
        state = log_search_index.state()
        data = {
            "items": [_hit(hit) for hit in found.hits],
            "further": found.further,
            "reached": found.reached,
            "took_too_long": found.took_too_long,
            "index": {"mode": state.mode.value, "waiting": state.waiting},
        }
        return Response(FoundSerializer(data).data)


def _hit(hit: Hit) -> dict[str, Any]:
    execution: Execution = hit.execution
    lines = []
    for snippet in hit.snippets:
        marks, at = [], 0
        for text, marked in snippet.pieces:
            if marked:
                marks.append([at, at + len(text)])
            at += len(text)
        lines.append({"where": snippet.where, "line": snippet.line, "text": snippet.text, "marks": marks})
    names = ("task_id", "task_name", "client_id", "status", "scheduled_time")
    return {
        "execution_id": execution.pk,
        **{name: getattr(execution, name) for name in names},
        "count": hit.count,
        "lines": lines,
    }
