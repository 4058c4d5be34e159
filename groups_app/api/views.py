"""/api/v1/groups (PRD §8.2)."""

from typing import Any

from django.db.models import Q
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from groups_app import actions
from groups_app.api.hosts import ClientSerializer
from groups_app.models import Group
from groups_app.selectors import clients_for, groups_for
from quartzflow.api.fields import ModelSerializer
from quartzflow.api.pagination import PagePagination
from quartzflow.api.requests import get_or_404, object_body, user_of
from quartzflow.api.schema import WriteSerializer


class GroupSerializer(ModelSerializer[Group]):
    tags = serializers.ListField(source="tag_list", child=serializers.CharField(), read_only=True)
    online_count = serializers.IntegerField(read_only=True)
    client_count = serializers.IntegerField(read_only=True)
    task_count = serializers.IntegerField(read_only=True)

    class Meta:
        model = Group
        fields = ["id", "name", "description", "tags", "online_count", "client_count", "task_count"]


class GroupWriteSerializer(WriteSerializer):
    """What is left out keeps its value."""

    name = serializers.CharField(required=False, help_text="At most 64 characters.")
    description = serializers.CharField(required=False, allow_blank=True)
    tags = serializers.ListField(child=serializers.CharField(), required=False)


class GroupCreateSerializer(GroupWriteSerializer):
    name = serializers.CharField(help_text="At most 64 characters.")


class GroupViewSet(viewsets.GenericViewSet[Group]):
    """Host groups; the list is not paged (PRD §8.2)."""

    serializer_class = GroupSerializer
    queryset = Group.objects.none()
    pagination_class: Any = None

    def get_queryset(self) -> Any:
        return groups_for(user_of(self.request))

    @extend_schema(parameters=[OpenApiParameter("keyword", str), OpenApiParameter("tag", str)])
    def list(self, request: Request) -> Response:
        """All groups that one may see; ?keyword=… in name, description or tags, ?tag=… for one whole tag."""
        groups = self.get_queryset().order_by("name")
        if word := request.query_params.get("keyword", "").strip():
            groups = groups.filter(
                Q(name__icontains=word) | Q(description__icontains=word) | Q(tags__icontains=word)
            )
        rows = list(groups)
        if tag := request.query_params.get("tag", "").strip():
            rows = [group for group in rows if tag in group.tag_list]
        return Response(self.get_serializer(rows, many=True).data)

    def retrieve(self, request: Request, pk: str) -> Response:
        return Response(self.get_serializer(get_or_404(self.get_queryset(), pk)).data)

    @extend_schema(request=GroupCreateSerializer)
    def create(self, request: Request) -> Response:
        group = actions.do_save_group(user_of(request), object_body(request))
        return Response(
            self.get_serializer(get_or_404(self.get_queryset(), group.pk)).data,
            status=status.HTTP_201_CREATED,
        )

    @extend_schema(request=GroupWriteSerializer)
    def update(self, request: Request, pk: str) -> Response:
        group = actions.do_save_group(
            user_of(request), object_body(request), get_or_404(self.get_queryset(), pk)
        )
        return Response(self.get_serializer(get_or_404(self.get_queryset(), group.pk)).data)

    partial_update = update

    def destroy(self, request: Request, pk: str) -> Response:
        actions.do_delete_group(user_of(request), get_or_404(self.get_queryset(), pk))
        return Response(None)

    @extend_schema(responses=ClientSerializer(many=True))
    @action(detail=True, pagination_class=PagePagination)
    def clients(self, request: Request, pk: str) -> Response:
        """The hosts of a group."""
        group = get_or_404(self.get_queryset(), pk)
        clients: Any = clients_for(user_of(request)).filter(group=group)
        page: Any = self.paginate_queryset(clients)
        return self.get_paginated_response(ClientSerializer(page, many=True).data)
