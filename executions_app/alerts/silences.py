"""All that people do with silence windows. Everything is audited."""

from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from groups_app.models import Group
from quartzflow.audit import difference, record
from quartzflow.errors import Conflict, InvalidInput
from quartzflow.permissions import User, check
from tasks_app.models import Task

from .actions import LISTS, check_name, check_write, store
from .checks import check_silence
from .choices import Scope
from .models import AlertSilence

LONGEST = 31 * 24  # hours of a window that is made with one click


def checked_silence(user: User, silence: AlertSilence | None, data: dict[str, Any]) -> dict[str, Any]:
    """What saving would store; what is left out of `data` stays. Nothing is written.

    Raises InvalidInput, NotAllowed, NotFound.
    """
    check_write(user, AlertSilence, silence)
    before = silence_data(silence) if silence else {"scope": "global"}
    required = {} if silence else {"name": ""}
    cleaned = check_silence(user, {**before, **required, **data})
    check_name(AlertSilence, silence, cleaned)
    return cleaned


def do_save_silence(user: User, silence: AlertSilence | None, data: dict[str, Any]) -> AlertSilence:
    """Make or change a silence window. Raises InvalidInput, NotAllowed, NotFound."""
    cleaned = checked_silence(user, silence, data)
    before = silence_data(silence) if silence else {}
    row = silence or AlertSilence(created_by=user.get_username()[:150])
    with transaction.atomic():
        store(row, cleaned)
        if silence is None:
            record(user, "alert_silence.create", row, silence_data(row))
        elif changes := difference(before, silence_data(row)):
            record(user, "alert_silence.update", row, changes)
    return row


def do_silence_for(
    user: User, subject: Task | Group, hours: int, now: datetime | None = None
) -> AlertSilence:
    """Silence one task or host group from now on. Raises InvalidInput, NotAllowed, NotFound."""
    if not 1 <= hours <= LONGEST:
        raise InvalidInput(
            {"hours": [_("A whole number from %(low)s to %(high)s.") % {"low": 1, "high": LONGEST}]}
        )
    now = now or timezone.now()
    until = now + timedelta(hours=hours)
    is_task = isinstance(subject, Task)
    return do_save_silence(
        user,
        None,
        {
            "name": name_of(subject.name, until),
            "scope": Scope.TASKS.value if is_task else Scope.GROUPS.value,
            "task_ids" if is_task else "group_ids": [subject.pk],
            "begins": now,
            "ends": until,
        },
    )


def name_of(subject: str, until: datetime | None) -> str:
    """A name for a window that nobody has given one: what it silences, and until when."""
    if until is None:
        return subject[:64]
    return f"{subject[:40]} → {timezone.localtime(until):%Y-%m-%d %H:%M:%S}"


def do_end_silence(user: User, silence: AlertSilence, now: datetime | None = None) -> None:
    """End a window that is open once, or has not begun. Raises Conflict, NotAllowed, NotFound."""
    check(user, silence, "change")
    now = now or timezone.now()
    with transaction.atomic():
        ours = AlertSilence.objects.select_for_update().filter(pk=silence.pk, ends__gt=now).first()
        if ours is None:
            raise Conflict(_("It is over already, or repeats every week: delete it then."))
        before = silence_data(ours)
        ours.ends = now
        ours.begins = min(ours.begins or now, now)
        ours.save(update_fields=["begins", "ends"])
        record(user, "alert_silence.update", ours, difference(before, silence_data(ours)))


def do_delete_silence(user: User, silence: AlertSilence) -> None:
    """Raises NotAllowed, NotFound."""
    check(user, silence, "delete")
    with transaction.atomic():
        record(user, "alert_silence.delete", silence)
        silence.delete()


def silence_data(silence: AlertSilence) -> dict[str, Any]:
    """A silence as a body has it."""
    found: dict[str, Any] = {
        name: getattr(silence, name)
        for name in ("name", "reason", "scope", "begins", "ends", "weekdays", "zone")
    }
    for name in ("time_begins", "time_ends"):
        value = getattr(silence, name)
        found[name] = f"{value:%H:%M:%S}" if value else None
    for name in ("task_ids", "group_ids"):
        found[name] = sorted(getattr(silence, LISTS[name]).values_list("pk", flat=True))
    return found
