"""/api/v1/tokens: one's own API tokens."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from quartzflow import tokens
from quartzflow.errors import NotFound
from quartzflow.models import ApiToken
from quartzflow.tokens import Scope

from .authentication import token_behind
from .fields import ModelSerializer, UtcDateTimeField
from .requests import object_body, user_of


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """For the description of the API."""

    target_class = "quartzflow.api.authentication.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "`Token …`, from the console's page *My settings*, /api/v1/tokens or `manage.py api_token`.",
        }


class TokenSerializer(ModelSerializer[ApiToken]):
    """Reads only. The token itself is answered once, when it is made."""

    prefix = serializers.CharField(
        source="token.token_key", read_only=True, help_text="How the token begins."
    )
    scopes = serializers.ListField(
        child=serializers.ChoiceField(choices=Scope.choices), source="scope_list", read_only=True
    )
    created_at = UtcDateTimeField(source="token.created", read_only=True)
    expires_at = UtcDateTimeField(source="token.expiry", read_only=True, allow_null=True)

    class Meta:
        model = ApiToken
        fields = [
            "id",
            "name",
            "prefix",
            "scopes",
            "created_at",
            "expires_at",
            "last_used_at",
            "last_used_from",
        ]


class MadeTokenSerializer(TokenSerializer):
    """What is answered once."""

    text = serializers.CharField(read_only=True, help_text="The token. It cannot be shown again.")

    class Meta(TokenSerializer.Meta):
        fields = [*TokenSerializer.Meta.fields, "text"]


class TokenWriteSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=64)
    scopes = serializers.ListField(
        child=serializers.ChoiceField(choices=Scope.choices), required=False, help_text="All, if left out."
    )
    days = serializers.IntegerField(required=False, min_value=1, help_text="How long it is valid.")


class TokenViewSet(viewsets.GenericViewSet[ApiToken]):
    """One's own API tokens. A token makes others only that are good for no more, and live no longer, than itself."""

    serializer_class = TokenSerializer
    queryset = ApiToken.objects.none()

    def get_queryset(self) -> Any:
        return tokens.tokens_of(user_of(self.request))

    def list(self, request: Request) -> Response:
        page = self.paginate_queryset(self.get_queryset())
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    @extend_schema(request=TokenWriteSerializer, responses={201: MadeTokenSerializer})
    def create(self, request: Request) -> Response:
        made, text = tokens.do_create_token(user_of(request), object_body(request), token_behind(request))
        data = {**self.get_serializer(made).data, "text": text}
        return Response(data, status=status.HTTP_201_CREATED)

    def destroy(self, request: Request, pk: str) -> Response:
        """Revoke it at once."""
        if not pk.isascii() or not pk.isdigit() or len(pk) > 18:
            raise NotFound
        tokens.do_revoke_token(user_of(request), int(pk))
        return Response(None)
