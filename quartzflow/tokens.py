"""API tokens: what a program sends instead of a person's password (`Authorization: Token …`).

knox makes, hashes and expires them; here is what people know of them: a name, what they are good for, when they were
used last. A token never gives more than its owner has.
"""

from collections.abc import Iterable
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db import models, transaction
from django.db.models import QuerySet
from django.db.models.signals import post_save
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy
from knox.models import AuthToken

from .declared_settings import TOKEN_DAYS
from .errors import InvalidInput, NotFound
from .models import ApiToken

USE_NOTED = timedelta(minutes=1)  # a token's use is written down at most so often
MAX_TOKENS = 50  # of one person


class Scope(models.TextChoices):
    """What a token is good for."""

    READ = "read", _lazy("Read")
    TRIGGER = "trigger", _lazy("Run and cancel")
    WRITE = "write", _lazy("Change")


# (view's basename, action) of what runs or stops tasks; every other change needs WRITE.
TRIGGERING = frozenset(
    {
        ("task", "trigger"),
        ("execution", "cancel"),
        ("execution", "retry"),
        ("execution", "retry_many"),
        ("execution", "cancel_many"),
        ("run", "cancel"),
        ("run", "retry"),
        ("replay", "create"),
        ("replay", "cancel"),
    }
)

# What the one who makes a token says of it, on its way to where knox has stored it.
_described: ContextVar[dict[str, Any] | None] = ContextVar("token_description", default=None)


def needed_scope(method: str, basename: str, action: str, body: Any = None) -> Scope:
    """What a request needs of its token."""
    if method in ("GET", "HEAD", "OPTIONS"):
        return Scope.READ
    if (basename, action) in TRIGGERING:
        return Scope.TRIGGER
    if action == "batch" and isinstance(body, dict) and body.get("action") == "trigger":
        return Scope.TRIGGER
    return Scope.WRITE


def tokens_of(user: User) -> QuerySet[ApiToken]:
    """A person's tokens that are still valid, newest first."""
    valid = models.Q(token__expiry=None) | models.Q(token__expiry__gt=timezone.now())
    return ApiToken.objects.filter(valid, token__user=user).select_related("token").order_by("-pk")


def check_token(data: dict[str, Any], by: ApiToken | None = None) -> dict[str, Any]:
    """`name`, `scopes` and `days` as they may be. by: the token that asks for another, which must not be good for more.

    Raises InvalidInput naming each wrong field.
    """
    errors: dict[str, list[Any]] = {
        key: [_("Unknown field.")] for key in data if key not in ("name", "scopes", "days")
    }
    name, scopes, days = (
        data.get("name", ""),
        data.get("scopes", list(Scope)),
        data.get("days", TOKEN_DAYS.value),
    )
    if not isinstance(name, str) or not name.strip() or len(name) > 64 or "\0" in name:
        errors["name"] = [_("A name of up to 64 characters, to tell it from others.")]
    if not isinstance(scopes, list) or not scopes or any(scope not in Scope.values for scope in scopes):
        errors["scopes"] = [_("One or more of %(names)s.") % {"names": ", ".join(Scope.values)}]
    elif by is not None and not set(scopes) <= set(by.scope_list):
        errors["scopes"] = [_("A token cannot make one that is good for more than itself.")]
    if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= TOKEN_DAYS.value:
        errors["days"] = [_("Days from 1 to %(limit)s.") % {"limit": TOKEN_DAYS.value}]
    elif by is not None and by.token.expiry and timezone.now() + timedelta(days=days) > by.token.expiry:
        errors["days"] = [_("A token cannot make one that lives longer than itself.")]
    if errors:
        raise InvalidInput(errors)
    return {
        "name": name.strip(),
        "scopes": [scope for scope in Scope.values if scope in scopes],
        "days": days,
    }


def do_create_token(user: User, data: dict[str, Any], by: ApiToken | None = None) -> tuple[ApiToken, str]:
    """A new token of the user's; the text is known now and never again. Raises InvalidInput."""
    cleaned = check_token(data, by)
    if tokens_of(user).count() >= MAX_TOKENS:
        raise InvalidInput(
            {"name": [_("You have %(count)s tokens; revoke one first.") % {"count": MAX_TOKENS}]}
        )
    mark = _described.set({"name": cleaned["name"], "scopes": ",".join(cleaned["scopes"])})
    try:
        with transaction.atomic():
            made, text = AuthToken.objects.create(user=user, expiry=timedelta(days=cleaned["days"]))
    finally:
        _described.reset(mark)
    return ApiToken.objects.select_related("token").get(token=made), text


def do_revoke_token(user: User, pk: int) -> None:
    """Make one of the user's own tokens worthless at once. Raises NotFound for any other."""
    found = tokens_of(user).filter(pk=pk).first()
    if found is None:
        raise NotFound
    mark = _described.set({"name": found.name, "scopes": found.scopes})
    try:
        found.token.delete()
    finally:
        _described.reset(mark)


def note_use(token: ApiToken, address: str) -> None:
    """Write down that a token was used, and from where; at most once in USE_NOTED."""
    now = timezone.now()
    if token.last_used_at is None or token.last_used_at < now - USE_NOTED or token.last_used_from != address:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now, last_used_from=address[:64])


def description() -> dict[str, Any]:
    """What the audit trail says of the token that is being made or revoked."""
    return {"label" if key == "name" else key: value for key, value in (_described.get() or {}).items()}


def _describe(sender: Any, instance: AuthToken, created: bool, raw: bool = False, **kwargs: Any) -> None:
    """Whoever makes a token, there is a row that tells of it; one of which nothing was said is good for everything."""
    if created and not raw:
        ApiToken.objects.create(token=instance, **(_described.get() or {"scopes": ",".join(Scope.values)}))


def connect() -> None:
    """Called once, when all apps are loaded."""
    post_save.connect(_describe, AuthToken)


def expires_at(token: ApiToken) -> datetime | None:
    found: datetime | None = token.token.expiry
    return found


def labels(scopes: Iterable[str]) -> list[str]:
    """Scopes in words."""
    return [str(Scope(scope).label) for scope in scopes]
