"""How one user likes a list: which columns, and the filters that it opens with (kept in tb_user_preference.columns)."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from django.contrib.auth.models import User
from django.http import QueryDict
from django.utils.translation import gettext as _

from .errors import InvalidInput
from .models import UserPreference

MAX_QUERY = 1000  # characters
MAX_NAME = 64


@dataclass(frozen=True)
class ListView:
    """hidden: names of columns that are not shown; query: of the list's address, without "?"; "": no filters."""

    hidden: list[str] = field(default_factory=list)
    query: str = ""


def list_view(user: User, name: str, hidden: Iterable[str] = ()) -> ListView:
    """What the user has chosen for the list of that name (`app.model`); `hidden`: while they have not."""
    stored = UserPreference.objects.filter(user=user).values_list("columns", flat=True).first() or {}
    found = stored.get(name)
    if not isinstance(found, dict):
        return ListView(list(hidden))
    return ListView(list(found.get("hidden", ())), str(found.get("query", "")))


def do_save_list_view(
    user: User, name: str, columns: set[str], data: dict[str, Any], hidden_first: Iterable[str] = ()
) -> ListView:
    """Store what `data` names of a list's view; the rest stays. Raises InvalidInput naming the field.

    columns: the names that can be hidden; hidden_first: those that are while nobody has chosen
    """
    before = list_view(user, name, hidden_first)
    hidden, query = data.get("hidden", before.hidden), data.get("query", before.query)
    if not isinstance(hidden, list) or not set(hidden) <= columns:
        raise InvalidInput({"hidden": [_("Not one of the choices.")]})
    if len(hidden) == len(columns):
        raise InvalidInput({"hidden": [_("One column must stay.")]})
    if not isinstance(query, str) or len(query) > MAX_QUERY:
        raise InvalidInput({"query": [_("At most %(count)s characters.") % {"count": MAX_QUERY}]})
    view = ListView(sorted(hidden), kept_filters(query))
    row, _created = UserPreference.objects.get_or_create(user=user)
    row.columns = {**row.columns, name: asdict(view)}
    row.save(update_fields=["columns"])
    return view


def kept_filters(query: str) -> str:
    """Of an address's query what is worth keeping: filters and search.

    The order is by numbers of columns, which may be hidden later.
    """
    kept = QueryDict(query.lstrip("?"), mutable=True)
    for name in ("p", "o", "e"):
        kept.pop(name, None)
    return kept.urlencode()
