"""Small steps that views share."""

from typing import Any, TypeVar

from django.contrib.auth.models import User
from django.db.models import Model, QuerySet
from django.utils.translation import gettext as _
from rest_framework.exceptions import NotAuthenticated
from rest_framework.request import Request

from quartzflow.errors import InvalidInput, NotFound

M = TypeVar("M", bound=Model)


def get_or_404(queryset: QuerySet[M], pk: Any) -> M:
    """The object with this id among those that the caller may see. Raises NotFound, for nonsense too."""
    try:
        number = int(pk)
    except (TypeError, ValueError):
        raise NotFound from None
    found = queryset.filter(pk=number).first() if 0 < number < 2**63 else None
    if found is None:
        raise NotFound
    return found


def user_of(request: Request) -> User:
    """Who asks. Raises NotAuthenticated for nobody; the default permission classes have seen to that before."""
    if not isinstance(request.user, User):
        raise NotAuthenticated
    return request.user


def object_body(request: Request) -> dict[str, Any]:
    """The request's JSON object. Raises InvalidInput for anything else."""
    data: Any = request.data
    if data in (None, ""):
        return {}
    if not isinstance(data, dict):
        raise InvalidInput({"non_field_errors": [_("The body must be a JSON object.")]})
    return dict(data)
