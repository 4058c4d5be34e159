"""/api/v1/runs: all executions of one firing together."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from executions_app import control
from executions_app.models import Execution
from executions_app.retries import do_retry_run
from executions_app.runs import run_view
from executions_app.selectors import executions_for
from quartzflow.api.fields import UtcDateTimeField
from quartzflow.api.requests import user_of
from quartzflow.errors import NotFound

from .descriptions import RunEdgeSerializer, RunNodeSerializer


class RunSerializer(serializers.Serializer[Any]):
    """Reads only."""

    run_id = serializers.CharField()
    task_id = serializers.IntegerField()
    task_name = serializers.CharField()
    execution_type = serializers.IntegerField()
    triggered_by = serializers.CharField()
    scheduled_time = UtcDateTimeField()
    params = serializers.DictField()
    status = serializers.IntegerField()
    status_name = serializers.CharField()
    counts = serializers.DictField(child=serializers.IntegerField())
    total = serializers.IntegerField()
    held = serializers.IntegerField()
    shard_total = serializers.IntegerField(allow_null=True)
    start_time = UtcDateTimeField(allow_null=True)
    end_time = UtcDateTimeField(allow_null=True)
    chain = RunNodeSerializer(many=True)
    edges = RunEdgeSerializer(many=True)


class RunViewSet(viewsets.GenericViewSet[Execution]):
    """One run: how it stands, the runs before and after; retry its failed hosts, cancel it."""

    serializer_class = RunSerializer
    queryset = Execution.objects.none()
    lookup_field = "run_id"
    lookup_value_regex = r"run_[\w-]+"

    def _answer(self, request: Request, run_id: str) -> Response:
        return Response(self.get_serializer(run_view(user_of(request), run_id)).data)

    def retrieve(self, request: Request, run_id: str) -> Response:
        """Its executions: /api/v1/executions?run_id=…"""
        return self._answer(request, run_id)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, run_id: str) -> Response:
        """Run the failed hosts again; answers the new run."""
        run_view(user_of(request), run_id)
        again = do_retry_run(user_of(request), run_id)
        return self._answer(request, again[0].run_id)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, run_id: str) -> Response:
        """Cancel what waits or runs."""
        rows = executions_for(user_of(request)).filter(run_id=run_id)
        if not rows.exists():
            raise NotFound
        control.do_cancel_executions(user_of(request), rows)
        return self._answer(request, run_id)
