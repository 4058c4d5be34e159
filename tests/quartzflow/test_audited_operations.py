"""What the audit trail tells of: a list, held against the code that writes entries."""

import ast
import re
from functools import cache

import pytest

from quartzflow.console.audit import NOUNS, VERBS
from tests.test_repository import module_name, tracked

# Every operation that must leave an entry (PRD §4.4). Removing one from the code must be a decision.
OPERATIONS = """
task.create task.update task.delete task.enable task.disable task.trigger task.replay task.replay_cancel
task.test_run task.import task.export
execution.cancel execution.retry
calendar.create calendar.update calendar.delete
group.create group.update group.delete
rule.create rule.update rule.delete rule.order rule.apply
client.enroll client.approve client.approval_lapse client.revoke client.reset client.rotate client.rotated client.move
enrollment_token.create enrollment_token.revoke
api_token.create api_token.delete
secret.create secret.update secret.delete secret.rotate
setting.update
user.create user.update user.delete user.rights
role.create role.update role.delete role.rights
permission.grant permission.withdraw
session.login session.logout session.login_failed
audit.export audit.prune
alert.acknowledge alert.resolve
alert_rule.create alert_rule.update alert_rule.delete
alert_channel.create alert_channel.update alert_channel.delete alert_channel.test
alert_silence.create alert_silence.update alert_silence.delete
""".split()  # noqa: SIM905 - a list to read

# Where the code puts the action together: (module, its expression) → what comes of it.
PUT_TOGETHER = {
    ("groups_app.actions", "f'group.{verb}'"): {"group.create", "group.update"},
    ("groups_app.actions", "f'client.{verb}'"): {
        "client.approve", "client.revoke", "client.reset", "client.rotate",
    },
    ("groups_app.rule_actions", "f'rule.{verb}'"): {"rule.create", "rule.update"},
    ("quartzflow.audit_signals", "f'permission.{verb}'"): {"permission.grant", "permission.withdraw"},
    ("quartzflow.audit_signals", "f'{noun}.rights'"): {"user.rights", "role.rights"},
    ("quartzflow.audit", "PRUNE"): {"audit.prune"},
}  # fmt: skip


@cache
def written() -> dict[str, str]:
    """Action → the module that writes it, of every call of quartzflow.audit.record."""
    found: dict[str, str] = {}
    for path in tracked("*.py"):
        name = module_name(path)
        if name.partition(".")[0] not in (
            "quartzflow",
            "groups_app",
            "tasks_app",
            "executions_app",
            "quic_bridge",
        ):
            continue
        for call in ast.walk(ast.parse(path.read_bytes())):
            if not isinstance(call, ast.Call) or len(call.args) < 2:
                continue
            if getattr(call.func, "id", getattr(call.func, "attr", "")) != "record":
                continue
            actions = {
                part.value
                for part in ast.walk(call.args[1])
                if isinstance(part, ast.Constant) and re.fullmatch(r"[a-z_]+\.[a-z_]+", str(part.value))
            } or PUT_TOGETHER.get((name, ast.unparse(call.args[1])), set())
            assert actions, (
                f"{name}:{call.lineno}: name what {ast.unparse(call.args[1])} may be in PUT_TOGETHER"
            )
            found.update(dict.fromkeys(actions, name))
    return found


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_operation_leaves_an_entry(operation: str) -> None:
    assert operation in written()


def test_what_the_code_puts_together_is_there_as_named() -> None:
    sources = {module_name(path): path.read_text() for path in tracked("*.py")}
    for (module, _expression), actions in PUT_TOGETHER.items():
        for action in actions:
            verb = action.partition(".")[2]
            assert f'"{verb}"' in sources[module] or f".{verb}" in sources[module], (module, action)


def test_every_entry_is_told_in_words() -> None:
    without = [
        action
        for action in written()
        if action.partition(".")[0] not in NOUNS or action.partition(".")[2] not in VERBS
    ]
    assert without == [], "give them words in quartzflow.console.audit"
