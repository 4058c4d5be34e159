"""Filters of lists whose values a database can take."""

from typing import Any

import django_filters
from django import forms


class _Integer(forms.IntegerField):
    """Digits only: Django's own takes 1.0 and blanks, too."""

    def to_python(self, value: Any) -> int | None:
        if isinstance(value, str) and value and not (value.isascii() and value.isdigit()):
            raise forms.ValidationError(self.error_messages["invalid"], code="invalid")
        return super().to_python(value)


class IntegerFilter(django_filters.Filter):
    """A number from 0 that a BIGINT holds: an id, or a code."""

    field_class = _Integer

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, min_value=0, max_value=2**63 - 1, **kwargs)


class Ordering(django_filters.OrderingFilter):
    """`ordering=-name`: by fields of which any can be turned round; rows that are equal in all come by their id."""

    def filter(self, qs: Any, value: Any) -> Any:
        return qs.order_by(*map(self.get_ordering_value, value), "pk") if value else qs


def ordering(*fields: str) -> Ordering:
    """By these columns, whose names are those of the answer, too."""
    return Ordering(
        fields=[(name, name) for name in fields],
        help_text=f"One or several of {', '.join(fields)}, with commas; each with - before it: the other way round.",
    )
