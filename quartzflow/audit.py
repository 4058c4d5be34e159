"""The audit trail (PRD §4.4): who did what to which object, from where. Append-only, and chained.

Each entry's hash covers the entry and the hash before it, keyed with the secret key, which is not in the database:
changing, removing or inserting a row breaks the chain from there on, and nobody with the database alone can mend it.
"""

import hashlib
import hmac
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import models, transaction
from django.utils import timezone

from . import request_context
from .models import AuditEntry, AuditHead

SECRET_NAME = re.compile(
    r"passw|secret|token|credential|authorization|api[-_]?key|private[-_]?key|cookie", re.IGNORECASE
)
MASK = "••••••"
MAX_TEXT = 2000  # characters of one value
GENESIS = "0" * 64
PRUNE = "audit.prune"  # the entry that retention leaves
AT_ONCE = 5000  # entries that go while nobody else can write one


def record(
    actor: User | str | None,
    action: str,
    target: models.Model | None = None,
    changes: Mapping[str, Any] | None = None,
    *,
    name: str = "",
) -> AuditEntry:
    """Add one entry, in the caller's transaction: it is there exactly when what it tells of is.

    actor:   a user, or what acts instead of one ("system", "command:root")
    action:  `noun.verb`, such as `task.update`
    target:  the object; its name is kept, so that the entry stays readable when the object is gone
    changes: field → value, or field → [before, after]; values under secret names are masked
    """
    context = request_context.current()
    user = actor if isinstance(actor, User) else None
    with transaction.atomic():
        # The lock orders the chain. It is held until the caller commits, so entries of two actions never mix.
        head, _ = AuditHead.objects.select_for_update().get_or_create(pk=1, defaults={"hash": GENESIS})
        entry = AuditEntry(
            at=timezone.now(),
            actor_id=user.pk if user else None,
            actor_name=(user.get_username() if user else str(actor or ""))[:150],
            address=context.address[:64],
            request_id=context.request_id[:64],
            action=action,
            object_type=target._meta.label_lower if target is not None else "",
            object_id=str(target.pk)[:64] if target is not None else "",
            object_name=(name or (str(target) if target is not None else ""))[:255],
            changes=masked(dict(changes or {})),
            previous_hash=head.hash,
        )
        entry.hash = digest(entry, settings.SECRET_KEY)
        entry.save(force_insert=True)
        AuditHead.objects.filter(pk=1).update(hash=entry.hash)
    return entry


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    """field → [before, after] of what differs."""
    return {key: [before.get(key), after.get(key)] for key in after if before.get(key) != after.get(key)}


def masked(value: Any, name: str = "") -> Any:
    """The value as JSON can hold it, with everything under a secret name masked and long texts cut."""
    if name and SECRET_NAME.search(name):
        return MASK if value not in (None, "", [], {}) else value
    if isinstance(value, Mapping):
        return {str(key): masked(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [masked(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…"


def digest(entry: AuditEntry, key: str) -> str:
    """The entry's hash: HMAC-SHA-256 over its canonical JSON form, the hash before it included."""
    body = [
        entry.previous_hash,
        # Databases keep microseconds, in whatever zone: the text must be the same when it is read again.
        int(entry.at.timestamp() * 1_000_000),
        entry.actor_id,
        entry.actor_name,
        entry.address,
        entry.request_id,
        entry.action,
        entry.object_type,
        entry.object_id,
        entry.object_name,
        entry.changes,
    ]
    text = json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hmac.new(
        hashlib.sha256(f"audit:{key}".encode()).digest(), text.encode(), hashlib.sha256
    ).hexdigest()


@dataclass(frozen=True)
class Broken:
    """Where the chain does not hold: the first entry that is not what was written, or not where it was."""

    entry_id: int | None  # None: one of its ends is missing
    problem: str


def verify() -> Iterator[Broken]:
    """Walk the chain from the oldest entry that is kept; yields every break. Keys that were replaced are tried, too."""
    head = AuditHead.objects.filter(pk=1).first()
    expected = head.anchor if head else GENESIS
    keys: list[Any] = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    newest = AuditEntry.objects.filter(action=PRUNE).order_by("-pk").first()
    if expected != (newest.changes.get("begins_after") if newest else GENESIS):
        yield Broken(None, "the oldest entries were removed, and not by retention")
    for entry in AuditEntry.objects.order_by("pk").iterator(2000):
        if entry.previous_hash != expected:
            yield Broken(entry.pk, "an entry before this one was removed or inserted")
        if not any(hmac.compare_digest(entry.hash, digest(entry, key)) for key in keys):
            yield Broken(entry.pk, "the entry was changed")
        expected = entry.hash
    if expected != (head.hash if head else GENESIS):
        yield Broken(None, "the newest entries were removed")


def forget(before: datetime) -> int:
    """Retention: drop the oldest AT_ONCE entries that are older than `before`, and let the chain begin after them.

    An entry says so, and where the kept chain begins: whoever cuts the log off without it is found by `verify`.
    Returns how many went; call it again until none does.
    """
    with transaction.atomic():
        AuditHead.objects.select_for_update().get_or_create(pk=1, defaults={"hash": GENESIS})
        oldest = list(AuditEntry.objects.order_by("pk").values_list("pk", "hash", "at")[:AT_ONCE])
        # By id: an entry that carries an earlier time than the one before it must not leave a gap.
        going = list(itertools.takewhile(lambda row: row[2] < before, oldest))
        if not going:
            return 0
        last, last_hash, _at = going[-1]
        # A plain query set: the model's own refuses.
        count, _ = models.QuerySet(AuditEntry).filter(pk__lte=last).delete()
        AuditHead.objects.filter(pk=1).update(anchor=last_hash)
        record("system", PRUNE, None, {"removed": count, "before": before, "begins_after": last_hash})
    return count
