"""/api/v1/settings: what may change at run time (FR-6.5)."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from quartzflow import system_settings
from quartzflow.system_settings import State

from .fields import UtcDateTimeField
from .requests import object_body, user_of

KINDS = {int: "integer", float: "number", bool: "boolean", str: "text", list: "lines"}


class ChoiceSerializer(serializers.Serializer[Any]):
    value = serializers.JSONField()
    label = serializers.CharField()  # type: ignore[assignment]


class SettingSerializer(serializers.Serializer[Any]):
    """One setting: what it is, and how it stands."""

    name = serializers.CharField()
    section = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    help = serializers.CharField(allow_blank=True)
    unit = serializers.CharField(allow_blank=True)
    type = serializers.ChoiceField(choices=sorted(KINDS.values()))
    minimum = serializers.FloatField(allow_null=True)
    maximum = serializers.FloatField(allow_null=True)
    choices = ChoiceSerializer(many=True, help_text="The values that are allowed; empty: any of the type.")
    default = serializers.JSONField(help_text="In force where nothing is stored.")
    value = serializers.JSONField()
    changed = serializers.BooleanField(help_text="Whether a value is stored.")
    updated_at = UtcDateTimeField(allow_null=True)
    updated_by = serializers.CharField(allow_blank=True)


def shown(state: State) -> dict[str, Any]:
    setting = state.setting
    return {
        "name": setting.name,
        "section": setting.section,
        "label": str(setting.label),
        "help": str(setting.help),
        "unit": str(setting.unit),
        "type": KINDS[setting.kind],
        "minimum": setting.minimum,
        "maximum": setting.maximum,
        "choices": [{"value": value, "label": str(words)} for value, words in setting.choices],
        "default": setting.default_value,
        "value": state.value,
        "changed": state.changed,
        "updated_at": state.updated_at,
        "updated_by": state.updated_by,
    }


class SettingsView(APIView):
    """The system settings."""

    @extend_schema(responses=SettingSerializer(many=True))
    def get(self, request: Request) -> Response:
        """All of them, in the order that the console shows them in."""
        states = system_settings.states(user_of(request))
        return Response(SettingSerializer([shown(state) for state in states], many=True).data)

    @extend_schema(
        request={"application/json": {"type": "object", "additionalProperties": True}},
        responses=SettingSerializer(many=True),
    )
    def patch(self, request: Request) -> Response:
        """Store values by name; null goes back to the default. In force everywhere within seconds."""
        system_settings.do_change_settings(user_of(request), object_body(request))
        return self.get(request)
