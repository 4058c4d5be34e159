"""Bodies and answers that have no serializer of their own, as the API's description shows them."""

from typing import Any

from rest_framework import serializers

from quartzflow.api.fields import UtcDateTimeField
from quartzflow.api.schema import WriteSerializer
from quartzflow.execution_status import ExecutionStatus


class LogSerializer(serializers.Serializer[Any]):
    output = serializers.CharField()
    error = serializers.CharField()
    truncated = serializers.BooleanField()
    size = serializers.IntegerField(help_text="Bytes of the whole output.")


class StatsSerializer(serializers.Serializer[Any]):
    total_count = serializers.IntegerField()
    success_count = serializers.IntegerField()
    failure_count = serializers.IntegerField()
    timeout_count = serializers.IntegerField()
    cancelled_count = serializers.IntegerField()
    success_rate = serializers.FloatField(allow_null=True, help_text="Percent.")
    avg_duration = serializers.IntegerField(allow_null=True, help_text="Milliseconds.")


class IdsSerializer(WriteSerializer):
    ids = serializers.ListField(child=serializers.IntegerField(min_value=1), min_length=1, max_length=500)


class ExecutionIdsSerializer(serializers.Serializer[Any]):
    execution_ids = serializers.ListField(child=serializers.IntegerField())


class CountSerializer(serializers.Serializer[Any]):
    count = serializers.IntegerField()


class ReplayWriteSerializer(WriteSerializer):
    task_id = serializers.IntegerField()
    begin = serializers.DateTimeField()
    end = serializers.DateTimeField()
    parallel = serializers.IntegerField(min_value=1, max_value=100, required=False)
    dry_run = serializers.BooleanField(required=False, help_text="Only tell what it would do.")


class ReplayPreviewSerializer(serializers.Serializer[Any]):
    total = serializers.IntegerField(help_text="Times in the window.")
    existing = serializers.IntegerField(help_text="Those of which there are executions already.")
    times = serializers.ListField(child=UtcDateTimeField(), help_text="The first of them.")


class ProgressSerializer(serializers.Serializer[Any]):
    total = serializers.IntegerField(help_text="Times in the window.")
    fired = serializers.IntegerField()
    existing = serializers.IntegerField()
    counts = serializers.DictField(child=serializers.IntegerField(), help_text="Executions by status.")


class RunNodeSerializer(serializers.Serializer[Any]):
    run_id = serializers.CharField()
    task_id = serializers.IntegerField()
    task_name = serializers.CharField()
    status = serializers.ChoiceField(choices=ExecutionStatus.choices)
    status_name = serializers.CharField()


class RunEdgeSerializer(serializers.Serializer[Any]):
    parent = serializers.CharField()  # type: ignore[assignment]
    child = serializers.CharField()
