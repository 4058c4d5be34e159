"""Serializers of the API: moments in UTC, whatever time zone the caller's console shows."""

from datetime import UTC, datetime
from typing import Any, TypeVar

from django.db import models
from rest_framework import serializers

M = TypeVar("M", bound=models.Model)


class UtcDateTimeField(serializers.DateTimeField):
    """2025-01-10T02:00:00.000Z, to the millisecond."""

    def to_representation(self, value: datetime | None) -> Any:
        if value is None:
            return None
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class ModelSerializer(serializers.ModelSerializer[M]):
    """DRF's, with the fields above. DRF itself writes the current time zone's wall clock."""

    serializer_field_mapping = {
        **serializers.ModelSerializer.serializer_field_mapping,
        models.DateTimeField: UtcDateTimeField,
    }
