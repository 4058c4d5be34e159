"""Values of the kind that a column holds: Django's fields would take a list for a text, and 20.9 or "20" for 20."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import models
from django.utils.translation import gettext as _


def wrong_kinds(model: type[models.Model], data: Mapping[str, Any]) -> dict[str, list[Any]]:
    """field → what is wrong, of those values that are not of their column's kind. None is left to the columns."""
    columns = {field.name: field for field in model._meta.get_fields() if isinstance(field, models.Field)}
    wrong: dict[str, list[Any]] = {}
    for name, value in data.items():
        if value is None:
            continue
        column = columns.get(name)
        if isinstance(column, models.CharField | models.TextField) and not isinstance(value, str):
            wrong[name] = [_("Must be text.")]
        elif isinstance(column, models.BooleanField) and not isinstance(value, bool):
            wrong[name] = [_("Must be true or false.")]
        elif isinstance(column, models.IntegerField) and (
            not isinstance(value, int) or isinstance(value, bool)
        ):
            wrong[name] = [_("Must be a whole number.")]
        elif isinstance(column, models.DateTimeField) and not isinstance(value, str | datetime):
            wrong[name] = [_("Must be a moment such as 2025-01-10T02:00:00Z.")]
    return wrong
