"""/api/v1/assignment-rules: which group hosts come into by themselves (FR-3.2)."""

from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from executions_app.placement import do_apply_rules
from groups_app import rule_actions, rules
from groups_app.models import AssignmentRule, Client
from quartzflow.api.fields import ModelSerializer
from quartzflow.api.requests import flag, get_or_404, known, object_body, user_of
from quartzflow.api.schema import WriteSerializer
from quartzflow.errors import InvalidInput

SHOWN = 100  # hosts that an answer names


class RuleSerializer(ModelSerializer[AssignmentRule]):
    group = serializers.CharField(source="group.name", read_only=True)

    class Meta:
        model = AssignmentRule
        fields = [
            "id", "position", "name", "is_enabled", "hostname", "hostname_syntax", "cidr", "labels", "group_id",
            "group", "created_at", "updated_at",
        ]  # fmt: skip


class RuleWriteSerializer(WriteSerializer):
    name = serializers.CharField(required=False)
    is_enabled = serializers.BooleanField(required=False)
    hostname = serializers.CharField(required=False, allow_blank=True)
    hostname_syntax = serializers.CharField(required=False)
    cidr = serializers.CharField(required=False, allow_blank=True)
    labels = serializers.DictField(required=False)
    group_id = serializers.IntegerField(required=False)


class RulePreviewSerializer(RuleWriteSerializer):
    id = serializers.IntegerField(
        required=False, help_text="Of a stored rule, with these fields instead of its own."
    )


class OrderSerializer(WriteSerializer):
    ids = serializers.ListField(child=serializers.IntegerField())


class ApplySerializer(WriteSerializer):
    only_without_group = serializers.BooleanField(required=False)


class MatchSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    client_id = serializers.CharField()
    hostname = serializers.CharField()
    ip = serializers.CharField()
    group = serializers.CharField(allow_null=True)
    taken_by = serializers.CharField(allow_null=True)


class MatchesSerializer(serializers.Serializer[Any]):
    total = serializers.IntegerField()
    earlier = serializers.IntegerField(help_text="Those that a rule before it takes.")
    hosts = MatchSerializer(many=True, help_text="The first of them.")


class PlannedMoveSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    client_id = serializers.CharField()
    hostname = serializers.CharField()
    ip = serializers.CharField()
    group = serializers.CharField(allow_null=True)
    rule = serializers.CharField()
    to = serializers.CharField()


class PlannedMovesSerializer(serializers.Serializer[Any]):
    total = serializers.IntegerField()
    hosts = PlannedMoveSerializer(many=True, help_text="The first of them.")


class MovedByRulesSerializer(serializers.Serializer[Any]):
    moved = serializers.IntegerField()


class RuleViewSet(viewsets.GenericViewSet[AssignmentRule]):
    """Assignment rules, in their order; the list is not paged. Only for who manages the hosts of all groups."""

    serializer_class = RuleSerializer
    queryset = AssignmentRule.objects.none()
    pagination_class = None

    def get_queryset(self) -> Any:
        rules.check_may_rule(user_of(self.request))
        return AssignmentRule.objects.select_related("group")

    def list(self, request: Request) -> Response:
        return Response(self.get_serializer(self.get_queryset(), many=True).data)

    def retrieve(self, request: Request, pk: str) -> Response:
        return Response(self.get_serializer(get_or_404(self.get_queryset(), pk)).data)

    @extend_schema(request=RuleWriteSerializer)
    def create(self, request: Request) -> Response:
        """A new rule stands last."""
        rule = rule_actions.do_save_rule(user_of(request), object_body(request))
        return Response(self.get_serializer(rule).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=RuleWriteSerializer)
    def update(self, request: Request, pk: str) -> Response:
        """Fields left out keep their value."""
        rule = get_or_404(self.get_queryset(), pk)
        return Response(
            self.get_serializer(rule_actions.do_save_rule(user_of(request), object_body(request), rule)).data
        )

    partial_update = update

    def destroy(self, request: Request, pk: str) -> Response:
        rule_actions.do_delete_rule(user_of(request), get_or_404(self.get_queryset(), pk))
        return Response(None)

    @extend_schema(request=OrderSerializer, responses={200: RuleSerializer(many=True)})
    @action(detail=False, methods=["post"])
    def order(self, request: Request) -> Response:
        """{"ids": […]}: all rules, first to last."""
        ids = known(request, {"ids"}).get("ids")
        if not isinstance(ids, list) or not all(type(pk) is int for pk in ids):
            raise InvalidInput({"ids": [_("Must be a list of the ids of all rules.")]})
        rule_actions.do_order_rules(user_of(request), ids)
        return self.list(request)

    @extend_schema(request=RulePreviewSerializer, responses={200: MatchesSerializer})
    @action(detail=False, methods=["post"])
    def preview(self, request: Request) -> Response:
        """Which hosts a rule with these fields meets, and which of them a rule before it takes. With "id": the stored
        rule of that id, with these fields instead of its own."""
        body = object_body(request)
        rule = get_or_404(self.get_queryset(), body.pop("id")) if "id" in body else None
        rules.check_may_rule(user_of(request))
        found = rules.preview(rule_actions.fill_rule(body, rule))
        return Response(
            {
                "total": len(found.matching),
                "earlier": len(found.earlier),
                "hosts": [
                    {**host_of(client), "taken_by": getattr(found.earlier.get(client.pk), "name", None)}
                    for client in found.matching[:SHOWN]
                ],
            }
        )

    @extend_schema(
        methods=["get"],
        parameters=[OpenApiParameter("only_without_group", bool)],
        responses=PlannedMovesSerializer,
    )
    @extend_schema(methods=["post"], request=ApplySerializer, responses={200: MovedByRulesSerializer})
    @action(detail=False, methods=["get", "post"])
    def apply(self, request: Request) -> Response:
        """GET: which hosts the rules would move. POST: move them. {"only_without_group": true} leaves hosts alone that
        have a group (as a parameter of GET: ?only_without_group=1)."""
        user = user_of(request)
        rules.check_may_rule(user)
        if request.method == "POST":
            body = object_body(request)
            only = body.get("only_without_group", False)
            if not isinstance(only, bool) or body.keys() - {"only_without_group"}:
                raise InvalidInput({"only_without_group": [_("Must be true or false.")]})
            return Response({"moved": do_apply_rules(user, only_without_group=only)})
        only = flag(request, "only_without_group")
        found = rules.moves(only_without_group=only)
        hosts = [
            {**host_of(move.client), "rule": move.rule.name, "to": move.rule.group.name}
            for move in found[:SHOWN]
        ]
        return Response({"total": len(found), "hosts": hosts})


def host_of(client: Client) -> dict[str, Any]:
    return {
        "id": client.pk,
        "client_id": client.client_id,
        "hostname": client.hostname,
        "ip": client.ip,
        "group": client.group.name if client.group else None,
    }
