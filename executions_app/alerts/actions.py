"""All that people do with alerts, rules, channels and silences. Everything is audited."""

from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Model
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import override

from quartzflow.audit import MASK, difference, record
from quartzflow.errors import Conflict, InvalidInput, NotAllowed
from quartzflow.permissions import User, check, check_create

from . import channels, sources
from .checks import check_channel, check_rule, check_silence
from .choices import AlertState
from .models import Alert, AlertChannel, AlertRule, AlertSilence
from .selectors import alerts_for

# Many-to-many fields by the names that bodies have for them.
LISTS = {
    "task_ids": "tasks",
    "group_ids": "groups",
    "channel_ids": "channels",
    "escalation_channel_ids": "escalation_channels",
}


def do_save_channel(user: User, channel: AlertChannel | None, data: dict[str, Any]) -> AlertChannel:
    """Make or change a channel; what is left out stays, so does a `config` field that is left out or empty.

    Raises InvalidInput, NotAllowed, NotFound.
    """
    _check_write(user, AlertChannel, channel)
    if channel and data.get("kind", channel.kind) != channel.kind:
        raise InvalidInput({"kind": [_("A channel keeps its kind.")]})
    plain = ("name", "is_enabled", "language", "rate_per_hour")
    before = {name: getattr(channel, name) for name in plain} if channel else {}
    required = {} if channel else {"name": "", "kind": ""}
    cleaned = check_channel({**required, **data})
    row = channel or AlertChannel(created_by=user.get_username()[:150])
    for name, value in cleaned.items():
        setattr(row, name, value)
    config = None
    if channel is None or data.get("config"):
        config = data.get("config") or {}
        if channel is not None and isinstance(config, dict):
            config = {**_known_config(channel), **{key: value for key, value in config.items() if value}}
        config, errors = channels.check_config(row.kind, config)
        if errors:
            raise InvalidInput(errors)
    with transaction.atomic():
        row.updated_at = timezone.now()
        _save(row)
        if config is not None:
            row.ciphertext = channels.seal(row.pk, config)
            row.save(update_fields=["ciphertext"])
        changes: dict[str, Any] = difference(before, {name: getattr(row, name) for name in before or cleaned})
        if config is not None:
            changes["config"] = MASK
        if channel is None:
            record(user, "alert_channel.create", row, changes)
        elif changes:
            record(user, "alert_channel.update", row, changes)
    return row


def _known_config(channel: AlertChannel) -> dict[str, str]:
    try:
        return channels.config_of(channel)
    except channels.SendFailed:
        return {}  # its key is gone: what is given now must be all of it


def do_test_channel(user: User, channel: AlertChannel) -> None:
    """Send a test message now. Raises Conflict with what went wrong, NotAllowed, NotFound."""
    check(user, channel, "change")
    record(user, "alert_channel.test", channel)
    with override(channel.language):
        message = channels.Message(
            _("Test of Quartz-Flow"),
            _("This is a test of the channel “%(name)s”. Alerts arrive here.") % {"name": channel.name},
            {"id": None, "severity": "info", "alert": None},
        )
    try:
        channels.send(channel, message)
    except channels.SendFailed as error:
        raise Conflict(str(error)) from None


def do_save_rule(user: User, rule: AlertRule | None, data: dict[str, Any]) -> AlertRule:
    """Make or change a rule; what is left out stays. In force everywhere within seconds.

    Raises InvalidInput, NotAllowed, NotFound.
    """
    _check_write(user, AlertRule, rule)
    before = rule_data(rule) if rule else {"scope": "global"}
    required = {} if rule else {"name": "", "kind": ""}
    cleaned = check_rule(user, {**before, **required, **data})
    row = rule or AlertRule(created_by=user.get_username()[:150])
    with transaction.atomic():
        _store(row, cleaned)
        if rule is None:
            record(user, "alert_rule.create", row, rule_data(row))
        elif changes := difference(before, rule_data(row)):
            record(user, "alert_rule.update", row, changes)
        transaction.on_commit(sources.forget)
    sources.forget()
    return row


def do_save_silence(user: User, silence: AlertSilence | None, data: dict[str, Any]) -> AlertSilence:
    """Make or change a silence window. Raises InvalidInput, NotAllowed, NotFound."""
    _check_write(user, AlertSilence, silence)
    before = silence_data(silence) if silence else {"scope": "global"}
    required = {} if silence else {"name": ""}
    cleaned = check_silence(user, {**before, **required, **data})
    row = silence or AlertSilence(created_by=user.get_username()[:150])
    with transaction.atomic():
        _store(row, cleaned)
        if silence is None:
            record(user, "alert_silence.create", row, silence_data(row))
        elif changes := difference(before, silence_data(row)):
            record(user, "alert_silence.update", row, changes)
    return row


def do_delete_channel(user: User, channel: AlertChannel) -> None:
    """Refused while rules name it. Raises Conflict, NotAllowed, NotFound."""
    check(user, channel, "delete")
    with transaction.atomic():
        if channel.rules.exists() or channel.escalated_rules.exists():
            raise Conflict(_("Rules send to this channel. Take it out of them first."))
        record(user, "alert_channel.delete", channel)
        channel.delete()


def do_delete_rule(user: User, rule: AlertRule) -> None:
    """With its alerts. Raises NotAllowed, NotFound."""
    check(user, rule, "delete")
    with transaction.atomic():
        record(user, "alert_rule.delete", rule)
        rule.delete()
        transaction.on_commit(sources.forget)
    sources.forget()


def do_delete_silence(user: User, silence: AlertSilence) -> None:
    check(user, silence, "delete")
    with transaction.atomic():
        record(user, "alert_silence.delete", silence)
        silence.delete()


def do_acknowledge(user: User, alert: Alert) -> None:
    """Somebody has taken it on: nobody is told of it again. Raises Conflict, NotAllowed."""
    _check_handle(user, alert)
    with transaction.atomic():
        ours = Alert.objects.filter(pk=alert.pk, state=AlertState.OPEN)
        if not ours.update(state=AlertState.ACKNOWLEDGED, acknowledged_by=user.get_username()[:150]):
            raise Conflict(_("The alert is not open any more."))
        record(user, "alert.acknowledge", alert)


def do_resolve(user: User, alert: Alert) -> None:
    """It is over; the next event begins a new one. Raises Conflict, NotAllowed."""
    _check_handle(user, alert)
    with transaction.atomic():
        ours = Alert.objects.filter(pk=alert.pk).exclude(state=AlertState.RESOLVED)
        if not ours.update(
            state=AlertState.RESOLVED, resolved_by=user.get_username()[:150], resolved_at=timezone.now()
        ):
            raise Conflict(_("The alert is over already."))
        record(user, "alert.resolve", alert)


def may_handle(user: User) -> bool:
    return user.has_perm("executions_app.change_alert")


def _check_handle(user: User, alert: Alert) -> None:
    if not may_handle(user) or not alerts_for(user).filter(pk=alert.pk).exists():
        raise NotAllowed


def _check_write(user: User, model: type[Model], row: Model | None) -> None:
    if row is None:
        check_create(user, model)
    else:
        check(user, row, "change")


def _store(row: AlertRule | AlertSilence, cleaned: dict[str, Any]) -> None:
    for name, value in cleaned.items():
        if name not in LISTS:
            setattr(row, name, value)
    if isinstance(row, AlertRule):
        row.updated_at = timezone.now()
    _save(row)
    for name, field in LISTS.items():
        if name in cleaned:
            getattr(row, field).set(cleaned[name])


def _save(row: Model) -> None:
    try:
        with transaction.atomic():
            row.save()
    except IntegrityError:
        raise InvalidInput({"name": [_("This name is taken.")]}) from None


def rule_data(rule: AlertRule) -> dict[str, Any]:
    """A rule as a body has it."""
    plain = (
        "name", "is_enabled", "kind", "threshold", "scope", "severity", "repeat_minutes", "escalate_events",
        "escalate_minutes", "title", "body",
    )  # fmt: skip
    return {name: getattr(rule, name) for name in plain} | {
        name: sorted(getattr(rule, field).values_list("pk", flat=True)) for name, field in LISTS.items()
    }


def silence_data(silence: AlertSilence) -> dict[str, Any]:
    """A silence as a body has it."""
    found: dict[str, Any] = {
        name: getattr(silence, name) for name in ("name", "scope", "begins", "ends", "weekdays", "zone")
    }
    for name in ("time_begins", "time_ends"):
        value = getattr(silence, name)
        found[name] = f"{value:%H:%M:%S}" if value else None
    for name in ("task_ids", "group_ids"):
        found[name] = sorted(getattr(silence, LISTS[name]).values_list("pk", flat=True))
    return found
