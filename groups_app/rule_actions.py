"""All writes to assignment rules. Applying them to hosts that are there is in executions_app.placement."""

from collections.abc import Sequence
from typing import Any

from django.db import transaction
from django.db.models import Max
from django.utils.translation import gettext as _

from quartzflow.audit import difference, record
from quartzflow.errors import Conflict, InvalidInput
from quartzflow.permissions import User

from .models import AssignmentRule, Group
from .rules import MAX_RULES, check_may_rule, check_rule

RULE_FIELDS = ("name", "is_enabled", "hostname", "hostname_syntax", "cidr", "labels")


def do_save_rule(user: User, data: dict[str, Any], rule: AssignmentRule | None = None) -> AssignmentRule:
    """Create a rule, which stands last, or change one. `data`: RULE_FIELDS and `group_id`.

    Raises InvalidInput, NotAllowed, and Conflict beyond MAX_RULES.
    """
    check_may_rule(user)
    before = _state(AssignmentRule.objects.get(pk=rule.pk)) if rule is not None else {}
    filled = fill_rule(data, rule)
    with transaction.atomic():
        if rule is None:
            if AssignmentRule.objects.count() >= MAX_RULES:
                raise Conflict(
                    _("There are %(count)s rules already, the most there may be.") % {"count": MAX_RULES}
                )
            filled.position = (AssignmentRule.objects.aggregate(last=Max("position"))["last"] or 0) + 1
        filled.save()
        verb = "create" if rule is None else "update"
        if changes := difference(before, _state(filled)):
            record(user, f"rule.{verb}", filled, changes)
    return filled


def fill_rule(data: dict[str, Any], rule: AssignmentRule | None = None) -> AssignmentRule:
    """The rule with these fields, checked and not saved. Raises InvalidInput."""
    errors: dict[str, list[Any]] = {
        name: [_("Unknown field.")] for name in data if name not in (*RULE_FIELDS, "group_id")
    }
    filled = AssignmentRule() if rule is None else AssignmentRule.objects.get(pk=rule.pk)
    for name in RULE_FIELDS:
        if name not in data:
            continue
        kind: type = {"is_enabled": bool, "labels": dict}.get(name, str)
        if isinstance(data[name], kind):
            setattr(filled, name, data[name])
        else:
            errors[name] = [_("Not valid.")]
    if "group_id" in data:
        pk = data["group_id"]
        group = Group.objects.filter(pk=pk).first() if type(pk) is int and 0 < pk < 2**63 else None
        if group is None:
            errors["group_id"] = [_("There is no such group.")]
        else:
            filled.group = group
    elif rule is None:
        errors["group_id"] = [_("This field is required.")]
    if errors:
        raise InvalidInput(errors)
    if AssignmentRule.objects.filter(name=filled.name.strip()).exclude(pk=filled.pk).exists():
        raise InvalidInput({"name": [_("There is a rule of this name.")]})
    check_rule(filled)
    return filled


def do_delete_rule(user: User, rule: AssignmentRule) -> None:
    """Hosts that came into a group by it stay there. Raises NotAllowed."""
    check_may_rule(user)
    with transaction.atomic():
        record(user, "rule.delete", rule, _state(rule))
        rule.delete()


def do_order_rules(user: User, ids: Sequence[int]) -> None:
    """Put the rules into this order. Raises NotAllowed, and Conflict when it does not name each of them once."""
    check_may_rule(user)
    with transaction.atomic():
        rules = {rule.pk: rule for rule in AssignmentRule.objects.select_for_update()}
        if len(ids) != len(set(ids)) or set(ids) != rules.keys():
            raise Conflict(_("The rules have changed meanwhile. Load the page again."))
        before = [rule.name for rule in sorted(rules.values(), key=lambda r: (r.position, r.pk))]
        for position, pk in enumerate(ids, 1):
            AssignmentRule.objects.filter(pk=pk).update(position=position)
        after = [rules[pk].name for pk in ids]
        if after != before:
            record(user, "rule.order", None, {"order": [before, after]}, name=_("Assignment rules"))


def _state(rule: AssignmentRule) -> dict[str, Any]:
    return {**{name: getattr(rule, name) for name in RULE_FIELDS}, "group": rule.group.name}
