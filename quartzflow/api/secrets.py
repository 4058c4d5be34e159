"""/api/v1/secrets: named secrets. Their values go in and never come out."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from quartzflow.models import Secret
from quartzflow.permissions import visible
from tasks_app import secret_actions
from tasks_app.models import Task
from tasks_app.secrets import tasks_using

from .fields import ModelSerializer
from .requests import get_or_404, object_body, user_of


class SecretSerializer(ModelSerializer[Secret]):
    """Reads only: writes are validated in tasks_app.secret_actions."""

    class Meta:
        model = Secret
        fields = ["id", "name", "description", "created_by", "created_at", "updated_by", "updated_at"]


class SecretDetailSerializer(SecretSerializer):
    """With who may use it, and which tasks do (as far as the caller may see them)."""

    users = serializers.SerializerMethodField()
    roles = serializers.SerializerMethodField()
    tasks = serializers.SerializerMethodField()

    class Meta(SecretSerializer.Meta):
        fields = [*SecretSerializer.Meta.fields, "users", "roles", "tasks"]

    def get_users(self, secret: Secret) -> list[str]:
        return [user.get_username() for user in secret_actions.holders_of(secret)["users"]]

    def get_roles(self, secret: Secret) -> list[str]:
        return [role.name for role in secret_actions.holders_of(secret)["roles"]]

    def get_tasks(self, secret: Secret) -> list[str]:
        pks = [task.pk for task in tasks_using([secret.name])]
        seen = visible(self.context["request"].user, Task.objects.filter(pk__in=pks))
        return list(seen.order_by("name").values_list("name", flat=True))


class SecretWriteSerializer(serializers.Serializer[Any]):
    """What a body may hold."""

    name = serializers.CharField(help_text="Letters, digits and underscores. It stays for ever.")
    value = serializers.CharField(write_only=True, help_text="6 characters to 32 KB.")
    description = serializers.CharField(required=False)
    users = serializers.ListField(
        child=serializers.CharField(), required=False, help_text="User names that may use it in tasks."
    )
    roles = serializers.ListField(child=serializers.CharField(), required=False)


class SecretChangeSerializer(SecretWriteSerializer):
    """What is left out stays."""

    name = serializers.CharField(required=False)
    value = serializers.CharField(write_only=True, required=False)


class SecretViewSet(viewsets.GenericViewSet[Secret]):
    """Named secrets, as far as the caller may see them."""

    serializer_class = SecretSerializer
    queryset = Secret.objects.none()

    def get_queryset(self) -> Any:
        return visible(user_of(self.request), Secret.objects.all()).order_by("name")

    def _answer(self, secret: Secret, code: int = status.HTTP_200_OK) -> Response:
        return Response(SecretDetailSerializer(secret, context={"request": self.request}).data, status=code)

    def list(self, request: Request) -> Response:
        page = self.paginate_queryset(self.get_queryset())
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    @extend_schema(responses=SecretDetailSerializer)
    def retrieve(self, request: Request, pk: str) -> Response:
        return self._answer(get_or_404(self.get_queryset(), pk))

    @extend_schema(request=SecretWriteSerializer, responses={201: SecretDetailSerializer})
    def create(self, request: Request) -> Response:
        secret = secret_actions.do_create_secret(user_of(request), object_body(request))
        return self._answer(secret, status.HTTP_201_CREATED)

    @extend_schema(request=SecretChangeSerializer, responses=SecretDetailSerializer)
    def update(self, request: Request, pk: str) -> Response:
        """What is left out stays. A new value goes to the agents at once that run tasks with it."""
        secret = get_or_404(self.get_queryset(), pk)
        return self._answer(secret_actions.do_update_secret(user_of(request), secret, object_body(request)))

    partial_update = update

    def destroy(self, request: Request, pk: str) -> Response:
        """Refused while tasks use it; the answer names them."""
        secret_actions.do_delete_secret(user_of(request), get_or_404(self.get_queryset(), pk))
        return Response(None)
