"""All that people do with alerts, rules and channels; silences are in silences.py. Everything is audited."""

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
from .checks import check_channel, check_rule
from .choices import AlertState, ChannelKind, DeliveryState, Severity
from .models import Alert, AlertChannel, AlertDelivery, AlertRule, AlertSilence
from .selectors import alerts_for

# Many-to-many fields by the names that bodies have for them.
LISTS = {
    "task_ids": "tasks",
    "group_ids": "groups",
    "channel_ids": "channels",
    "escalation_channel_ids": "escalation_channels",
}


def checked_channel(
    user: User, channel: AlertChannel | None, data: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, str] | None]:
    """The columns that saving would store, and the configuration (None: stays). Nothing is written.

    What is left out of `data` stays, so does a field of `config` that is left out or empty.
    Raises InvalidInput, NotAllowed, NotFound.
    """
    check_write(user, AlertChannel, channel)
    if channel and data.get("kind", channel.kind) != channel.kind:
        raise InvalidInput({"kind": [_("A channel keeps its kind.")]})
    required = {} if channel else {"name": "", "kind": ""}
    errors: dict[str, list[Any]] = {}
    try:
        cleaned = check_channel({**required, **data})
        check_name(AlertChannel, channel, cleaned)
    except InvalidInput as error:
        errors = error.errors
    kind = channel.kind if channel else str(data.get("kind", ""))
    config = None
    if kind in ChannelKind.values and (channel is None or data.get("config")):
        config = data.get("config") or {}
        if channel is not None and isinstance(config, dict):
            config = {**_known_config(channel), **{key: value for key, value in config.items() if value}}
        config, wrong = channels.check_config(kind, config)
        errors |= wrong
    if errors:
        raise InvalidInput(errors)
    return cleaned, config


def do_save_channel(user: User, channel: AlertChannel | None, data: dict[str, Any]) -> AlertChannel:
    """Make or change a channel. Raises InvalidInput, NotAllowed, NotFound."""
    cleaned, config = checked_channel(user, channel, data)
    plain = ("name", "is_enabled", "language", "rate_per_hour")
    before = {name: getattr(channel, name) for name in plain} if channel else {}
    row = channel or AlertChannel(created_by=user.get_username()[:150])
    for name, value in cleaned.items():
        setattr(row, name, value)
    with transaction.atomic():
        row.updated_at = timezone.now()
        save(row)
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


def do_switch_channel(user: User, channel: AlertChannel, *, on: bool) -> None:
    """Let a channel take messages, or none. Raises NotAllowed, NotFound."""
    check(user, channel, "change")
    with transaction.atomic():
        if AlertChannel.objects.filter(pk=channel.pk, is_enabled=not on).update(is_enabled=on):
            record(user, "alert_channel.update", channel, {"is_enabled": [not on, on]})


def _known_config(channel: AlertChannel) -> dict[str, str]:
    try:
        return channels.config_of(channel)
    except channels.SendFailed:
        return {}  # its key is gone: what is given now must be all of it


def do_test_channel(user: User, channel: AlertChannel) -> None:
    """Send a test message now, and note it with the channel's messages.

    Raises Conflict with what went wrong, NotAllowed, NotFound.
    """
    check(user, channel, "change")
    record(user, "alert_channel.test", channel)
    with override(channel.language):
        message = channels.Message(
            _("Test of Quartz-Flow"),
            _("This is a test of the channel “%(name)s”. Alerts arrive here.") % {"name": channel.name},
            {"id": None, "severity": Severity.INFO.value, "alert": None},
        )
    error = ""
    try:
        channels.send(channel, message)
    except channels.SendFailed as failure:
        error = str(failure)
    AlertDelivery.objects.create(
        channel=channel,
        title=message.title,
        body=message.body,
        severity=Severity.INFO,
        state=DeliveryState.FAILED if error else DeliveryState.SENT,
        attempts=1,
        error=error[:300],
        sent_at=None if error else timezone.now(),
    )
    if error:
        raise Conflict(error)


def checked_rule(user: User, rule: AlertRule | None, data: dict[str, Any]) -> dict[str, Any]:
    """What saving would store; what is left out of `data` stays. Nothing is written.

    Raises InvalidInput, NotAllowed, NotFound.
    """
    check_write(user, AlertRule, rule)
    before = rule_data(rule) if rule else {"scope": "global"}
    required = {} if rule else {"name": "", "kind": ""}
    cleaned = check_rule(user, {**before, **required, **data})
    check_name(AlertRule, rule, cleaned)
    return cleaned


def do_save_rule(user: User, rule: AlertRule | None, data: dict[str, Any]) -> AlertRule:
    """Make or change a rule. In force everywhere within seconds. Raises InvalidInput, NotAllowed, NotFound."""
    cleaned = checked_rule(user, rule, data)
    before = rule_data(rule) if rule else {}
    row = rule or AlertRule(created_by=user.get_username()[:150])
    row.updated_at = timezone.now()
    with transaction.atomic():
        store(row, cleaned)
        if rule is None:
            record(user, "alert_rule.create", row, rule_data(row))
        elif changes := difference(before, rule_data(row)):
            record(user, "alert_rule.update", row, changes)
        transaction.on_commit(sources.forget)
    sources.forget()
    return row


def do_switch_rule(user: User, rule: AlertRule, *, on: bool) -> None:
    """Let a rule make alerts, or none. Raises NotAllowed, NotFound."""
    check(user, rule, "change")
    with transaction.atomic():
        if AlertRule.objects.filter(pk=rule.pk, is_enabled=not on).update(is_enabled=on):
            record(user, "alert_rule.update", rule, {"is_enabled": [not on, on]})
        transaction.on_commit(sources.forget)
    sources.forget()


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


def check_write(user: User, model: type[Model], row: Model | None) -> None:
    """Raises NotAllowed, NotFound."""
    if row is None:
        check_create(user, model)
    else:
        check(user, row, "change")


def check_name(model: Any, row: Model | None, cleaned: dict[str, Any]) -> None:
    """Raise InvalidInput for a name that another row has."""
    others = model.objects.exclude(pk=row.pk) if row else model.objects
    if others.filter(name=cleaned.get("name")).exists():
        raise InvalidInput({"name": [_("This name is taken.")]})


def store(row: AlertRule | AlertSilence, cleaned: dict[str, Any]) -> None:
    """Save the row and its lists, in the caller's transaction."""
    for name, value in cleaned.items():
        if name not in LISTS:
            setattr(row, name, value)
    save(row)
    for name, field in LISTS.items():
        if name in cleaned:
            getattr(row, field).set(cleaned[name])


def save(row: Model) -> None:
    """Raises InvalidInput when somebody has taken the name just now."""
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
