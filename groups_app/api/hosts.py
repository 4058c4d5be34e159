"""/api/v1/clients and /api/v1/enrollment-tokens: hosts, and how they get in."""

from typing import Any

import django_filters
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from executions_app.placement import do_move_clients
from groups_app import actions
from groups_app.choices import ClientApproval, ClientKind
from groups_app.models import Client, EnrollmentToken
from groups_app.selectors import clients_for, groups_for, tokens_for
from quartzflow.api.fields import ModelSerializer
from quartzflow.api.filters import IntegerFilter, ordering
from quartzflow.api.requests import get_or_404, object_body, user_of
from quartzflow.api.schema import WriteSerializer
from quartzflow.errors import InvalidInput, NotFound
from tasks_app.configs import current_version


class ClientSerializer(ModelSerializer[Client]):
    """`task_version` is the configuration that the host holds; `push_error` says why it took no newer one."""

    group = serializers.CharField(source="group.name", default=None, read_only=True, allow_null=True)

    class Meta:
        model = Client
        fields = [
            "id", "client_id", "group_id", "group", "hostname", "ip", "kind", "status", "approval", "version", "os",
            "arch", "labels", "task_version", "push_error", "push_error_at", "running", "clock_offset_ms",
            "last_heartbeat", "connected_at", "approved_ip", "credential_rotating",
        ]  # fmt: skip


class ClientDetailSerializer(ClientSerializer):
    """`current_version` is the newest configuration; not every one concerns every host."""

    current_version = serializers.SerializerMethodField()

    class Meta(ClientSerializer.Meta):
        fields = [*ClientSerializer.Meta.fields, "current_version"]

    def get_current_version(self, client: Client) -> int:
        return current_version()


class ApproveSerializer(WriteSerializer):
    group_id = serializers.IntegerField()
    ip = serializers.CharField(
        required=False, allow_blank=True, help_text="Only if this is still its address."
    )


class MoveSerializer(WriteSerializer):
    ids = serializers.ListField(child=serializers.IntegerField(min_value=1), min_length=1)
    group_id = serializers.IntegerField(allow_null=True)
    stop_running = serializers.BooleanField(required=False)


class MovedSerializer(serializers.Serializer[Any]):
    moved = serializers.IntegerField()


class ClientFilter(django_filters.FilterSet):
    group_id = IntegerFilter(field_name="group_id")
    status = IntegerFilter(field_name="status")
    kind = django_filters.ChoiceFilter(choices=ClientKind.choices)
    approval = django_filters.ChoiceFilter(choices=ClientApproval.choices)
    keyword = django_filters.CharFilter(method="search")
    ordering = ordering("id", "client_id", "hostname", "status", "version", "last_heartbeat", "connected_at")

    class Meta:
        model = Client
        fields: list[str] = []

    def search(self, queryset: QuerySet[Client], name: str, value: str) -> QuerySet[Client]:
        return queryset.filter(
            Q(client_id__icontains=value) | Q(hostname__icontains=value) | Q(ip__icontains=value)
        )


class ClientViewSet(viewsets.GenericViewSet[Client]):
    """Hosts: list, one, and what operators decide about them."""

    serializer_class = ClientSerializer
    filterset_class = ClientFilter
    queryset = Client.objects.none()

    def get_queryset(self) -> Any:
        return clients_for(user_of(self.request))

    def _answer(self, pk: int) -> Response:
        return Response(ClientDetailSerializer(get_or_404(self.get_queryset(), pk)).data)

    def list(self, request: Request) -> Response:
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    @extend_schema(responses=ClientDetailSerializer)
    def retrieve(self, request: Request, pk: str) -> Response:
        """`current_version` is the newest configuration; not every one concerns every host."""
        return self._answer(get_or_404(self.get_queryset(), pk).pk)

    @extend_schema(request=MoveSerializer, responses={200: MovedSerializer})
    @action(detail=False, methods=["post"])
    def move(self, request: Request) -> Response:
        """{"ids": […], "group_id"}: put hosts into a group, or with null into none.

        What waits on them of tasks that are not the group's is cancelled; with {"stop_running": true} what runs of
        them is ended, too.
        """
        user, body = user_of(request), _known(request, {"ids", "group_id", "stop_running"})
        ids, stop_running = body.get("ids"), body.get("stop_running", False)
        if not isinstance(ids, list) or not ids or not all(type(pk) is int for pk in ids):
            raise InvalidInput({"ids": [_("Must be a list of host ids.")]})
        if "group_id" not in body:
            raise InvalidInput({"group_id": [_("This field is required.")]})
        if not isinstance(stop_running, bool):
            raise InvalidInput({"stop_running": [_("Must be true or false.")]})
        found = list(self.get_queryset().filter(pk__in=ids))
        if len(found) != len(set(ids)):
            raise NotFound
        group = None if body["group_id"] is None else get_or_404(groups_for(user), body["group_id"])
        return Response({"moved": do_move_clients(user, found, group, stop_running=stop_running)})

    @extend_schema(request=ApproveSerializer, responses={200: ClientDetailSerializer})
    @action(detail=True, methods=["post"])
    def approve(self, request: Request, pk: str) -> Response:
        """Let a quic-flow client have work, in {"group_id"}; with {"ip"} only if that is still its address."""
        client, user = get_or_404(self.get_queryset(), pk), user_of(request)
        body = _known(request, {"group_id", "ip"})
        if "group_id" not in body:
            raise InvalidInput({"group_id": [_("This field is required.")]})
        group = get_or_404(groups_for(user), body["group_id"])
        actions.do_approve_client(user, client, group, ip=str(body.get("ip") or ""))
        return self._answer(client.pk)

    @extend_schema(request=None, responses={200: ClientDetailSerializer})
    @action(detail=True, methods=["post"])
    def revoke(self, request: Request, pk: str) -> Response:
        client = get_or_404(self.get_queryset(), pk)
        actions.do_revoke_client(user_of(request), client)
        return self._answer(client.pk)

    @extend_schema(request=None, responses={200: ClientDetailSerializer})
    @action(detail=True, methods=["post"])
    def reset(self, request: Request, pk: str) -> Response:
        """Let the client id be enrolled anew."""
        client = get_or_404(self.get_queryset(), pk)
        actions.do_reset_client(user_of(request), client)
        return self._answer(client.pk)

    @extend_schema(request=None, responses={200: ClientDetailSerializer})
    @action(detail=True, methods=["post"])
    def rotate(self, request: Request, pk: str) -> Response:
        """Give the agent another credential; the old one is valid until the new one has been used."""
        client = get_or_404(self.get_queryset(), pk)
        actions.do_rotate_client(user_of(request), client)
        return self._answer(client.pk)


class EnrollmentTokenSerializer(ModelSerializer[EnrollmentToken]):
    """`group` null: the assignment rules choose it."""

    group = serializers.CharField(source="group.name", default=None, read_only=True, allow_null=True)
    created_by = serializers.CharField(
        source="created_by.username", default=None, read_only=True, allow_null=True
    )

    class Meta:
        model = EnrollmentToken
        fields = [
            "id", "prefix", "note", "group_id", "group", "allow_wish", "max_uses", "uses", "expires_at", "revoked_at",
            "created_by", "created_at",
        ]  # fmt: skip


class EnrollmentTokenWriteSerializer(WriteSerializer):
    group_id = serializers.IntegerField(allow_null=True, help_text="Null: the assignment rules choose it.")
    max_uses = serializers.IntegerField(required=False)
    hours = serializers.FloatField(required=False)
    note = serializers.CharField(required=False, allow_blank=True)
    allow_wish = serializers.BooleanField(required=False)


class NewEnrollmentTokenSerializer(EnrollmentTokenSerializer):
    token = serializers.CharField(read_only=True, help_text="Answered this once.")

    class Meta(EnrollmentTokenSerializer.Meta):
        fields = [*EnrollmentTokenSerializer.Meta.fields, "token"]


class EnrollmentTokenViewSet(mixins.ListModelMixin, viewsets.GenericViewSet[EnrollmentToken]):
    """Tokens that let new hosts into a group. The token itself is answered once, when it is made."""

    serializer_class = EnrollmentTokenSerializer
    queryset = EnrollmentToken.objects.none()

    def get_queryset(self) -> Any:
        return tokens_for(user_of(self.request))

    @extend_schema(request=EnrollmentTokenWriteSerializer, responses={201: NewEnrollmentTokenSerializer})
    def create(self, request: Request) -> Response:
        """{"group_id"}, and optionally "max_uses" (1), "hours" (24), "note".

        "group_id" null: the assignment rules choose the group, and where none fits, with "allow_wish", the host itself.
        """
        user, body = (
            user_of(request),
            _known(request, {"group_id", "max_uses", "hours", "note", "allow_wish"}),
        )
        if "group_id" not in body:
            raise InvalidInput({"group_id": [_("This field is required.")]})
        pk = body.pop("group_id")
        group = None if pk is None else get_or_404(groups_for(user), pk)
        errors = {
            name: [_("Not valid.")]
            for name, kinds in (
                ("max_uses", (int,)),
                ("hours", (int, float)),
                ("note", (str,)),
                ("allow_wish", (bool,)),
            )
            if name in body
            and (not isinstance(body[name], kinds) or (isinstance(body[name], bool) and bool not in kinds))
        }
        if errors:
            raise InvalidInput(errors)
        row, token = actions.do_create_enrollment_token(user, group, **body)
        data = {**self.get_serializer(row).data, "token": token}
        return Response(data, status=status.HTTP_201_CREATED)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def revoke(self, request: Request, pk: str) -> Response:
        token = get_or_404(self.get_queryset(), pk)
        actions.do_revoke_enrollment_token(user_of(request), token)
        return Response(self.get_serializer(get_or_404(self.get_queryset(), token.pk)).data)


def _known(request: Request, names: set[str]) -> dict[str, Any]:
    """The body, with these fields alone. Raises InvalidInput."""
    body = object_body(request)
    if unknown := sorted(set(body) - names):
        raise InvalidInput({name: [_("Unknown field.")] for name in unknown})
    return body
