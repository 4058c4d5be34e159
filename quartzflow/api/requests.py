"""Small steps that views share."""

from collections.abc import Iterable
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
    if not isinstance(data, dict):
        raise InvalidInput({"non_field_errors": [_("The body must be a JSON object.")]})
    return dict(data)


def flag(request: Request, name: str) -> bool:
    """The query's parameter, 1 or true, 0 or false; not there: false. Raises InvalidInput."""
    text = request.query_params.get(name, "false")
    if text not in ("0", "1", "false", "true"):
        raise InvalidInput({name: [_("Must be true or false.")]})
    return text in ("1", "true")


def known(request: Request, names: Iterable[str]) -> dict[str, Any]:
    """The request's JSON object, which may have these fields alone. Raises InvalidInput."""
    body = object_body(request)
    if unknown := sorted(set(body) - set(names)):
        raise InvalidInput({name: [_("Unknown field.")] for name in unknown})
    return body


def id_list(body: dict[str, Any], name: str, most: int) -> list[int]:
    """The field's ids, each once. Raises InvalidInput."""
    ids = body.get(name)
    if not isinstance(ids, list) or not ids or not all(type(pk) is int and 0 < pk < 2**63 for pk in ids):
        raise InvalidInput({name: [_("Must be a list of ids.")]})
    if len(ids) > most:
        raise InvalidInput({name: [_("At most %(count)s at once.") % {"count": most}]})
    return list(dict.fromkeys(ids))
