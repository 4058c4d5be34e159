"""/api/v1/alerts, alert-rules, alert-channels and alert-silences. What a channel knows goes in and never comes out."""

from typing import Any

import django_filters
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from executions_app.alerts import actions, selectors, silences
from executions_app.alerts.models import Alert, AlertChannel, AlertDelivery, AlertRule, AlertSilence
from quartzflow.api.fields import ModelSerializer
from quartzflow.api.filters import IntegerFilter
from quartzflow.api.requests import get_or_404, object_body, user_of
from quartzflow.api.schema import WriteSerializer
from quartzflow.permissions import visible


class AlertSerializer(ModelSerializer[Alert]):
    rule = serializers.CharField(source="rule.name", read_only=True)

    class Meta:
        model = Alert
        fields = [
            "id", "rule_id", "rule", "kind", "severity", "state", "task_id", "task_name", "client_id", "execution",
            "reason", "seconds", "count", "silenced_count", "first_at", "last_at", "notified_at", "escalated_at",
            "acknowledged_by", "resolved_by", "resolved_at",
        ]  # fmt: skip


class AlertFilter(django_filters.FilterSet):
    state = django_filters.CharFilter(field_name="state")
    kind = django_filters.CharFilter(field_name="kind")
    task_id = IntegerFilter(field_name="task_id")

    class Meta:
        model = Alert
        fields: list[str] = []


class AlertViewSet(viewsets.GenericViewSet[Alert]):
    """Alerts about tasks and hosts that the caller may see; open ones first."""

    serializer_class = AlertSerializer
    filterset_class = AlertFilter
    queryset = Alert.objects.none()

    def get_queryset(self) -> Any:
        return selectors.open_first(selectors.alerts_for(user_of(self.request))).select_related("rule")

    def list(self, request: Request) -> Response:
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    def retrieve(self, request: Request, pk: str) -> Response:
        return Response(self.get_serializer(get_or_404(self.get_queryset(), pk)).data)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def acknowledge(self, request: Request, pk: str) -> Response:
        """Somebody has taken it on: nobody is told of it again."""
        actions.do_acknowledge(user_of(request), get_or_404(self.get_queryset(), pk))
        return self.retrieve(request, pk)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def resolve(self, request: Request, pk: str) -> Response:
        """It is over; the next event begins a new alert."""
        actions.do_resolve(user_of(request), get_or_404(self.get_queryset(), pk))
        return self.retrieve(request, pk)


def _ids(**options: Any) -> serializers.ListField:
    return serializers.ListField(child=serializers.IntegerField(), required=False, **options)


class AlertRuleSerializer(ModelSerializer[AlertRule]):
    task_ids: Any = serializers.PrimaryKeyRelatedField(source="tasks", many=True, read_only=True)
    group_ids: Any = serializers.PrimaryKeyRelatedField(source="groups", many=True, read_only=True)
    channel_ids: Any = serializers.PrimaryKeyRelatedField(source="channels", many=True, read_only=True)
    escalation_channel_ids: Any = serializers.PrimaryKeyRelatedField(
        source="escalation_channels", many=True, read_only=True
    )

    class Meta:
        model = AlertRule
        fields = [
            "id", "name", "is_enabled", "kind", "threshold", "scope", "task_ids", "group_ids", "severity",
            "channel_ids", "repeat_minutes", "escalate_events", "escalate_minutes", "escalation_channel_ids",
            "title", "body", "created_by", "created_at", "updated_at",
        ]  # fmt: skip


class AlertRuleWriteSerializer(WriteSerializer):
    """What is left out stays; a new rule needs a name and a kind."""

    name = serializers.CharField(required=False)
    is_enabled = serializers.BooleanField(required=False)
    kind = serializers.CharField(required=False)
    threshold = serializers.IntegerField(required=False, help_text="Executions, or seconds, by the kind.")
    scope = serializers.CharField(required=False, help_text="global, tasks or groups")
    task_ids = _ids()
    group_ids = _ids()
    severity = serializers.CharField(required=False, help_text="info, warning or critical")
    channel_ids = _ids()
    repeat_minutes = serializers.IntegerField(required=False)
    escalate_events = serializers.IntegerField(required=False, help_text="0: never")
    escalate_minutes = serializers.IntegerField(required=False, help_text="0: never")
    escalation_channel_ids = _ids()
    title = serializers.CharField(required=False, allow_blank=True)
    body = serializers.CharField(required=False, allow_blank=True)


class AlertChannelSerializer(ModelSerializer[AlertChannel]):
    class Meta:
        model = AlertChannel
        fields = [
            "id", "name", "kind", "is_enabled", "language", "rate_per_hour", "created_by", "created_at", "updated_at",
        ]  # fmt: skip


class AlertChannelWriteSerializer(WriteSerializer):
    """What is left out stays; a new channel needs a name, a kind and its configuration."""

    name = serializers.CharField(required=False)
    kind = serializers.CharField(required=False)
    is_enabled = serializers.BooleanField(required=False)
    language = serializers.CharField(required=False, help_text="zh-hans or en")
    rate_per_hour = serializers.IntegerField(required=False)
    config = serializers.DictField(child=serializers.CharField(), required=False, help_text="By the kind.")


class AlertSilenceSerializer(ModelSerializer[AlertSilence]):
    task_ids: Any = serializers.PrimaryKeyRelatedField(source="tasks", many=True, read_only=True)
    group_ids: Any = serializers.PrimaryKeyRelatedField(source="groups", many=True, read_only=True)

    class Meta:
        model = AlertSilence
        fields = [
            "id", "name", "reason", "scope", "task_ids", "group_ids", "begins", "ends", "weekdays", "time_begins",
            "time_ends", "zone", "created_by", "created_at",
        ]  # fmt: skip


class AlertSilenceWriteSerializer(WriteSerializer):
    """Once (begins, ends) or every week (weekdays, time_begins, time_ends, zone)."""

    name = serializers.CharField(required=False)
    reason = serializers.CharField(required=False, allow_blank=True)
    scope = serializers.CharField(required=False)
    task_ids = _ids()
    group_ids = _ids()
    begins = serializers.DateTimeField(required=False, allow_null=True)
    ends = serializers.DateTimeField(required=False, allow_null=True)
    weekdays = _ids(help_text="0 is Monday")
    time_begins = serializers.TimeField(required=False, allow_null=True)
    time_ends = serializers.TimeField(required=False, allow_null=True)
    zone = serializers.CharField(required=False)


class AlertDeliverySerializer(ModelSerializer[AlertDelivery]):
    class Meta:
        model = AlertDelivery
        fields = ["id", "alert_id", "title", "state", "attempts", "error", "created_at", "sent_at"]


class _Stored(viewsets.GenericViewSet[Any]):
    """Rows that people keep: list, create, read, change, delete, each by the rights on the object."""

    model: Any
    save: Any
    remove: Any

    def get_queryset(self) -> Any:
        return visible(user_of(self.request), self.model.objects.all())

    def _rows(self) -> Any:
        lists = [field.name for field in self.model._meta.many_to_many]
        return self.get_queryset().prefetch_related(*lists)

    def list(self, request: Request) -> Response:
        page = self.paginate_queryset(self._rows())
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    def retrieve(self, request: Request, pk: str) -> Response:
        return Response(self.get_serializer(get_or_404(self._rows(), pk)).data)

    def create(self, request: Request) -> Response:
        row = type(self).save(user_of(request), None, object_body(request))
        return Response(self.get_serializer(row).data, status=status.HTTP_201_CREATED)

    def update(self, request: Request, pk: str) -> Response:
        row = get_or_404(self.get_queryset(), pk)
        return Response(
            self.get_serializer(type(self).save(user_of(request), row, object_body(request))).data
        )

    def partial_update(self, request: Request, pk: str) -> Response:
        return self.update(request, pk)

    def destroy(self, request: Request, pk: str) -> Response:
        type(self).remove(user_of(request), get_or_404(self.get_queryset(), pk))
        return Response(None)


def _described(read: Any, write: Any) -> Any:
    """What goes in and comes out, for the API's description."""
    return extend_schema_view(
        create=extend_schema(request=write, responses={201: read}),
        update=extend_schema(request=write, responses=read),
        partial_update=extend_schema(request=write, responses=read),
        destroy=extend_schema(responses=None),
    )


@_described(AlertRuleSerializer, AlertRuleWriteSerializer)
class AlertRuleViewSet(_Stored):
    """What makes an alert, and who is told."""

    serializer_class = AlertRuleSerializer
    model = AlertRule
    queryset = AlertRule.objects.none()
    save = staticmethod(actions.do_save_rule)
    remove = staticmethod(actions.do_delete_rule)


@_described(AlertSilenceSerializer, AlertSilenceWriteSerializer)
class AlertSilenceViewSet(_Stored):
    """When alerts are noted and nobody is told."""

    serializer_class = AlertSilenceSerializer
    model = AlertSilence
    queryset = AlertSilence.objects.none()
    save = staticmethod(silences.do_save_silence)
    remove = staticmethod(silences.do_delete_silence)


@_described(AlertChannelSerializer, AlertChannelWriteSerializer)
class AlertChannelViewSet(_Stored):
    """Where alerts go. Refuses to delete what rules send to."""

    serializer_class = AlertChannelSerializer
    model = AlertChannel
    queryset = AlertChannel.objects.none()
    save = staticmethod(actions.do_save_channel)
    remove = staticmethod(actions.do_delete_channel)

    @extend_schema(request=None, responses=AlertChannelSerializer)
    @action(detail=True, methods=["post"])
    def test(self, request: Request, pk: str) -> Response:
        """Send a test message now; 409 says what went wrong."""
        actions.do_test_channel(user_of(request), get_or_404(self.get_queryset(), pk))
        return self.retrieve(request, pk)

    @extend_schema(responses=AlertDeliverySerializer(many=True))
    @action(detail=True, methods=["get"])
    def deliveries(self, request: Request, pk: str) -> Response:
        """What was sent, newest first, and what became of it."""
        channel = get_or_404(self.get_queryset(), pk)
        page = self.paginate_queryset(selectors.deliveries_for(user_of(request)).filter(channel=channel))
        return self.get_paginated_response(AlertDeliverySerializer(page, many=True).data)
