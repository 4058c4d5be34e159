"""How the API shows tasks and their versions, and how it describes what it takes."""

from typing import Any

from rest_framework import serializers

from quartzflow.api.fields import ModelSerializer, UtcDateTimeField
from quartzflow.api.schema import WriteSerializer
from tasks_app.checks import EDITABLE
from tasks_app.choices import DependencyCondition, VersionAction
from tasks_app.exchange import ACTIONS
from tasks_app.executors import HTTP_METHODS
from tasks_app.models import Task, TaskVersion
from tasks_app.selectors import next_fire_time


class DependencySerializer(WriteSerializer):
    task_id = serializers.IntegerField()
    condition = serializers.ChoiceField(
        choices=DependencyCondition.choices, default=DependencyCondition.SUCCESS
    )


class TaskSerializer(ModelSerializer[Task]):
    """Reads only: writes are validated in tasks_app.actions, the same for pages and API."""

    groups = serializers.SerializerMethodField()
    calendar_id = serializers.IntegerField(read_only=True)
    group_ids = serializers.SerializerMethodField()
    owner = serializers.CharField(source="owner.username", default=None, read_only=True, allow_null=True)
    next_exec_time = serializers.SerializerMethodField()
    dependencies = serializers.SerializerMethodField()
    hidden_dependencies = serializers.SerializerMethodField()

    class Meta:
        model = Task
        fields = [
            "id", "name", "description", "executor_type", "executor_config", "cron_expr", "timeout",
            "retry_count", "retry_interval", "retry_max_interval", "concurrency", "status", "created_by",
            "created_at", "updated_at", "owner", "groups", "group_ids", "is_global", "labels", "schedule_type",
            "timezone", "interval_seconds", "run_at", "start_at", "end_at", "misfire_policy", "misfire_grace",
            "concurrency_policy", "routing", "spread_seconds", "selector", "offline_policy", "calendar_id",
            "calendar_mode", "skipped_count", "last_skipped_at", "dependencies", "hidden_dependencies",
            "dependency_mode", "wave_size", "wave_max_failed", "version", "next_exec_time",
        ]  # fmt: skip

    def get_dependencies(self, task: Task) -> list[dict[str, Any]]:
        """The tasks that this one runs after, as far as one may see them."""
        return [{"task_id": d.parent_id, "condition": d.condition} for d in self._parents(task, seen=True)]

    def get_hidden_dependencies(self, task: Task) -> int:
        """How many more there are that one may not see; a change keeps them."""
        return len(self._parents(task, seen=False))

    def _parents(self, task: Task, *, seen: bool) -> list[Any]:
        links: list[Any] = list(task.dependencies.all())  # of tasks_app.selectors.with_parents
        return [link for link in links if link.seen is seen]

    def get_groups(self, task: Task) -> list[str]:
        return [group.name for group in task.groups.all()]

    def get_group_ids(self, task: Task) -> list[int]:
        return [group.pk for group in task.groups.all()]

    def get_next_exec_time(self, task: Task) -> str | None:
        moment = next_fire_time(task)
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None


class TaskWriteSerializer(serializers.ModelSerializer[Task]):
    """A task's fields as a change sends them; what is left out keeps its value."""

    # Blanks around these are taken off before their length counts.
    name = serializers.CharField(required=False, help_text="At most 128 characters.")
    cron_expr = serializers.CharField(required=False, allow_blank=True, help_text="At most 64 characters.")
    timezone = serializers.CharField(required=False, help_text="Such as Asia/Shanghai.")
    wave_size = serializers.CharField(
        required=False, allow_blank=True, help_text="A number such as 10, or a part such as 20%."
    )
    executor_config = serializers.DictField(
        required=False,
        help_text="Shell: command, interpreter, work_dir, env, run_as, umask, nice, limits. HTTP: url, method ("
        + ", ".join(HTTP_METHODS)
        + "), headers, body, auth, follow_redirects, expected_status, expected_body, verify_tls. "
        "Plugin: plugin, params. Every one: parameters.",
    )
    labels = serializers.DictField(child=serializers.CharField(allow_blank=True), required=False)
    selector = serializers.DictField(required=False, help_text="Label → a value, or a list of values.")
    group_ids = serializers.ListField(child=serializers.IntegerField(), required=False)
    calendar_id = serializers.IntegerField(required=False, allow_null=True)
    dependencies = DependencySerializer(many=True, required=False)

    class Meta:
        model = Task
        fields = [*EDITABLE, "group_ids", "calendar_id", "dependencies"]


class TaskCreateSerializer(TaskWriteSerializer):
    """A new task; what is left out has its default."""

    name = serializers.CharField(help_text="At most 128 characters.")


class TriggerSerializer(WriteSerializer):
    params = serializers.DictField(required=False, help_text="Name → text, number, true or false.")


class TriggeredSerializer(serializers.Serializer[Any]):
    execution_id = serializers.IntegerField()
    execution_ids = serializers.ListField(child=serializers.IntegerField())
    run_id = serializers.CharField()


class CopySerializer(WriteSerializer):
    name = serializers.CharField(required=False, help_text="At most 128 characters.")


class BatchSerializer(WriteSerializer):
    action = serializers.ChoiceField(choices=["enable", "disable", "delete", "trigger"])
    ids = serializers.ListField(child=serializers.IntegerField(min_value=1), min_length=1, max_length=500)
    params = serializers.DictField(required=False, help_text="Of `trigger`.")


class BatchedSerializer(serializers.Serializer[Any]):
    count = serializers.IntegerField(help_text="Tasks that changed, or executions that were started.")
    execution_ids = serializers.ListField(child=serializers.IntegerField())


class BehindSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    client_id = serializers.CharField()
    group = serializers.CharField(allow_null=True)
    task_version = serializers.IntegerField()
    push_error = serializers.CharField(allow_blank=True)
    push_error_at = UtcDateTimeField(allow_null=True)


class PushStateSerializer(serializers.Serializer[Any]):
    version = serializers.IntegerField()
    online = serializers.IntegerField(help_text="Hosts that are meant.")
    behind = serializers.IntegerField(help_text="Those of them that do not hold the version yet.")
    clients = BehindSerializer(many=True, help_text="The first of them.")


class CronSerializer(serializers.Serializer[Any]):
    next_executions = serializers.ListField(child=serializers.CharField())
    local_times = serializers.ListField(child=serializers.CharField())
    timezone = serializers.CharField()


class VersionSerializer(ModelSerializer[TaskVersion]):
    """One version, without what the task was."""

    action = serializers.ChoiceField(choices=VersionAction.choices)
    actor = serializers.CharField(source="actor_name")
    changed = serializers.ListField(child=serializers.CharField())

    class Meta:
        model = TaskVersion
        fields = ["number", "action", "origin", "actor", "created_at", "changed"]


class FullVersionSerializer(VersionSerializer):
    """`definition`: groups, calendar and tasks by name; values under secret names are masked."""

    definition = serializers.DictField()

    class Meta(VersionSerializer.Meta):
        fields = [*VersionSerializer.Meta.fields, "definition"]


class ChangeSerializer(serializers.Serializer[Any]):
    field = serializers.CharField()
    before = serializers.JSONField()
    after = serializers.JSONField()
    lines = serializers.ListField(
        child=serializers.CharField(), help_text="Of texts with several lines: the diff."
    )


class DiffSerializer(serializers.Serializer[Any]):
    before = VersionSerializer()
    after = VersionSerializer()
    changes = ChangeSerializer(many=True)


class ForceSerializer(WriteSerializer):
    force = serializers.BooleanField(required=False, help_text="Although it is executing.")


class TaskFileSerializer(serializers.Serializer[Any]):
    tasks = serializers.ListField(child=serializers.DictField(), help_text="As an export writes them.")


class ImportRowSerializer(serializers.Serializer[Any]):
    number = serializers.IntegerField()
    name = serializers.CharField(allow_blank=True)
    action = serializers.ChoiceField(choices=ACTIONS)
    changes = serializers.DictField(child=serializers.ListField(), help_text="Field → before, after.")
    errors = serializers.DictField(  # type: ignore[assignment]
        child=serializers.ListField(child=serializers.CharField())
    )


class ImportedSerializer(serializers.Serializer[Any]):
    applied = serializers.BooleanField(help_text="False: a dry run, or a row was refused.")
    counts = serializers.DictField(child=serializers.IntegerField())
    rows = ImportRowSerializer(many=True)
