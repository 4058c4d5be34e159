"""Which group a host comes into by itself (FR-3.2): the first rule, in their order, all of whose conditions it meets.

Address ranges are judged by the address that the server sees. Host names and labels are what the host says of itself:
whoever has an enrollment token can say anything.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import re2
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from quartzflow.errors import InvalidInput, NotAllowed
from quartzflow.permissions import User

from .choices import NameSyntax
from .labels import check_selector, matches
from .models import AssignmentRule, Client

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_RULES = 200
MAX_NETWORKS = 100
PATTERN_MEMORY = 1 << 20  # bytes that a compiled pattern may take


@dataclass(frozen=True)
class Host:
    """What rules look at."""

    hostname: str
    ip: str
    labels: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, client: Client) -> "Host":
        return cls(client.hostname, client.ip, client.labels)


class Matcher:
    """A rule's conditions, made ready. Raises ValueError for what is no network or no pattern."""

    def __init__(self, rule: AssignmentRule) -> None:
        self.networks = networks(rule.cidr)
        self.name = pattern(rule.hostname, NameSyntax(rule.hostname_syntax)) if rule.hostname else None
        self.labels = rule.labels

    def __call__(self, host: Host) -> bool:
        return (
            (not self.networks or _is_in(host.ip, self.networks))
            and (self.name is None or self.name.fullmatch(host.hostname) is not None)
            and matches(self.labels, host.labels)
        )


def networks(text: str) -> tuple[Network, ...]:
    """Networks such as 10.0.0.0/8 or single addresses, separated by commas or blanks. Raises ValueError naming one."""
    found: list[Network] = []
    for part in re.split(r"[,\s]+", text.strip()):
        if part:
            try:
                found.append(ipaddress.ip_network(part, strict=False))
            except ValueError:
                raise ValueError(part) from None
    return tuple(found)


def pattern(text: str, syntax: NameSyntax) -> Any:
    """A pattern for whole host names, whatever their case. It takes linear time, whoever wrote it. Raises ValueError.

    Globs know * and ?, and several of them may be separated by commas.
    """
    if syntax == NameSyntax.GLOB:
        words = {"*": ".*", "?": "."}
        globs = [part.strip() for part in text.split(",") if part.strip()]
        text = "|".join("".join(words.get(c) or re2.escape(c) for c in glob) for glob in globs)
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    options.max_mem = PATTERN_MEMORY
    try:
        return re2.compile(text, options)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        raise ValueError(
            reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        ) from None


def _is_in(text: str, wanted: Iterable[Network]) -> bool:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address.version == network.version and address in network for network in wanted)


_matchers: dict[int, tuple[datetime, Matcher]] = {}


def matcher(rule: AssignmentRule) -> Matcher:
    """The rule's conditions, from the cache where it has not changed."""
    known = _matchers.get(rule.pk)
    if known is None or known[0] != rule.updated_at:
        known = _matchers[rule.pk] = (rule.updated_at, Matcher(rule))
    return known[1]


def rules_in_order() -> list[AssignmentRule]:
    """The rules that are switched on, first to last, with their groups."""
    return list(AssignmentRule.objects.filter(is_enabled=True).select_related("group"))


def first_match(host: Host, rules: Iterable[AssignmentRule]) -> AssignmentRule | None:
    """The rule that decides about the host."""
    return next((rule for rule in rules if matcher(rule)(host)), None)


# --- What people see ---


def check_may_rule(user: User) -> None:
    """Rules are about every group: who sees or changes them manages the hosts of all groups. Raises NotAllowed."""
    if not user.has_perm("groups_app.manage_hosts"):
        raise NotAllowed


def check_rule(rule: AssignmentRule) -> None:
    """Bring the fields into shape. Raises InvalidInput naming what is wrong."""
    errors: dict[str, list[Any]] = {}
    rule.name, rule.hostname = rule.name.strip(), rule.hostname.strip()
    try:
        rule.full_clean(validate_constraints=False)
    except ValidationError as error:
        errors |= error.message_dict
    try:
        found = networks(rule.cidr)
        rule.cidr = ", ".join(map(str, found))
        if len(found) > MAX_NETWORKS:
            errors["cidr"] = [_("At most %(count)s networks.") % {"count": MAX_NETWORKS}]
    except ValueError as error:
        words = _("%(text)s is no network such as 10.0.0.0/8 and no address.")
        errors["cidr"] = [words % {"text": error}]
    if "hostname_syntax" not in errors and rule.hostname:
        try:
            pattern(rule.hostname, NameSyntax(rule.hostname_syntax))
        except ValueError as error:
            errors["hostname"] = [_("No regular expression of RE2: %(reason)s.") % {"reason": error}]
    if wrong := check_selector(rule.labels):
        errors["labels"] = list(wrong)
    if not errors and not (rule.cidr or rule.hostname or rule.labels):
        errors["hostname"] = [
            _("Give a condition at least: a host name, a network or a label. * is any host.")
        ]
    if errors:
        raise InvalidInput(errors)


@dataclass(frozen=True)
class Matches:
    """What a rule would take, if it stood at its place."""

    matching: list[Client]  # hosts that meet the conditions
    earlier: dict[int, AssignmentRule]  # those of them, by pk, that a rule before it takes


def preview(rule: AssignmentRule) -> Matches:
    """Of the hosts that are known. The rule need not be stored; a new one stands last."""
    met = Matcher(rule)
    matching = [client for client in _known_hosts() if met(Host.of(client))]
    before = [
        other
        for other in rules_in_order()
        if other.pk != rule.pk and (not rule.pk or (other.position, other.pk) < (rule.position, rule.pk))
    ]
    earlier = {
        client.pk: taken for client in matching if (taken := first_match(Host.of(client), before)) is not None
    }
    return Matches(matching, earlier)


def _known_hosts() -> Iterable[Client]:
    return Client.objects.select_related("group").order_by("client_id")


@dataclass(frozen=True)
class Move:
    """A host that the rules would put elsewhere."""

    client: Client
    rule: AssignmentRule


def moves(rules: Sequence[AssignmentRule] | None = None, *, only_without_group: bool = False) -> list[Move]:
    """What applying the rules to the hosts that are there would move. Hosts that no rule takes stay where they are."""
    rules = rules_in_order() if rules is None else rules
    clients = _known_hosts()
    return [
        Move(client, rule)
        for client in clients
        if not (only_without_group and client.group_id)
        and (rule := first_match(Host.of(client), rules)) is not None
        and rule.group_id != client.group_id
    ]
