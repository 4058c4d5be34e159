"""manage.py tasks, executions and groups."""

import io
import json
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from guardian.shortcuts import assign_perm

from executions_app.choices import ExecutionType
from executions_app.dispatch import fire, new_firing
from executions_app.management.commands.executions import Follower, line, moment
from executions_app.models import Execution, ExecutionLog
from groups_app import rule_actions
from groups_app.models import Client, Group
from quartzflow.execution_status import ExecutionStatus
from quartzflow.models import AuditEntry
from tasks_app.management.commands import tasks as tasks_command
from tests import people

pytestmark = pytest.mark.django_db


def run(*arguments):
    """The JSON that a command prints."""
    out = io.StringIO()
    call_command(*arguments, "--json", stdout=out)
    return json.loads(out.getvalue())


def text(*arguments):
    out, err = io.StringIO(), io.StringIO()
    call_command(*arguments, stdout=out, stderr=err)
    return out.getvalue() + err.getvalue()


def execution(**fields):
    client = Client.objects.first() or people.online_client()
    assert client
    (made,) = fire([new_firing(people.task(f"t{Execution.objects.count()}"), ExecutionType.MANUAL)])
    Execution.objects.filter(pk=made.pk).update(**fields)
    return Execution.objects.get(pk=made.pk)


def test_help_has_examples(capsys):
    for name in (
        "tasks", "executions", "groups", "clients", "enroll_token", "api_token", "import_tasks", "export_tasks",
        "rotate_secrets", "audit_verify",
    ):  # fmt: skip
        with pytest.raises(SystemExit):
            call_command(name, "--help")
        assert f"examples:\n\n  manage.py {name}" in capsys.readouterr().out


def test_the_audit_log_says_that_it_was_done_at_the_command_line(tmp_path):
    people.admin()
    people.task("a")
    file = tmp_path / "tasks.yaml"
    text("api_token", "admin")
    text("export_tasks", str(file))
    text("import_tasks", str(file))
    for action in ("api_token.create", "task.export", "task.import"):
        assert AuditEntry.objects.filter(action=action, address__startswith="command:").count() == 1, action


# --- tasks ---


def test_tasks_are_listed_and_shown():
    people.task("a")
    people.task("b", group_ids=[people.group("web").pk], status=0, description="nightly")
    assert [row["name"] for row in run("tasks", "list")] == ["a", "b"]
    assert [row["name"] for row in run("tasks", "list", "--group", "web")] == ["b"]
    assert [row["name"] for row in run("tasks", "list", "--keyword", "NIGHT")] == ["b"]
    assert [row["name"] for row in run("tasks", "list", "--enabled")] == ["a"]
    assert [row["next_time"] for row in run("tasks", "list", "--disabled")] == [None]
    assert run("tasks", "show", "a")["executor_config"] == {"command": "date"}
    assert "* * * * *" in text("tasks", "show", "a")
    assert "a  " in text("tasks", "list")


def test_tasks_are_switched_by_name_and_id():
    people.admin()
    a, b = people.task("a"), people.task("b")
    rows = run("tasks", "disable", "a", str(b.pk))
    assert [row["enabled"] for row in rows] == [False, False]
    assert [row["enabled"] for row in run("tasks", "enable", "a")] == [True]
    entry = AuditEntry.objects.filter(action="task.enable").get()
    assert (entry.actor_name, entry.address.startswith("command:")) == ("admin", True)
    with pytest.raises(CommandError, match="there is no task 'c'"):
        call_command("tasks", "enable", "a", "c")
    assert a.pk != b.pk


def test_a_task_is_run_with_parameters_on_one_host():
    people.online_client("web-1")
    people.online_client("web-2", session="s2")
    people.task("a")
    rows = run("tasks", "trigger", "a", "--param", "x=1=2", "--host", "web-2")
    assert [(row["client_id"], row["status"]) for row in rows] == [("web-2", "pending")]
    assert Execution.objects.get().params == {"x": "1=2"}
    for wrong in ("x", "1x=2"):
        with pytest.raises(CommandError, match="x"):
            call_command("tasks", "trigger", "a", "--param", wrong)
    assert [row["status"] for row in run("tasks", "cancel", "a")] == ["cancelled"]
    assert run("tasks", "cancel", "a") == []


@pytest.mark.parametrize(
    ("end", "code"),
    [(ExecutionStatus.SUCCESS, 0), (ExecutionStatus.FAILURE, 3), (ExecutionStatus.PENDING, 4)],
)
def test_waiting_for_a_run_tells_by_the_exit_status(end, code, monkeypatch):
    people.online_client()
    people.task("a")
    monkeypatch.setattr(tasks_command.time, "sleep", lambda _s: Execution.objects.update(status=end))
    arguments = ["tasks", "trigger", "a", "--wait", "--timeout", "0.05"]
    if not code:
        assert run(*arguments)[0]["status"] == "success"
        return
    with pytest.raises(CommandError) as error:
        run(*arguments)
    assert error.value.returncode == code


def test_a_user_has_their_rights_and_no_others():
    mine, user = people.task("mine"), people.stranger()
    people.task("other")
    assign_perm("tasks_app.view_task", user, mine)
    assert [row["name"] for row in run("tasks", "list", "--user", user.username)] == ["mine"]
    with pytest.raises(CommandError, match="permission"):
        call_command("tasks", "disable", "mine", "--user", user.username)
    with pytest.raises(CommandError, match="no active user 'nobody'"):
        call_command("tasks", "list", "--user", "nobody")


def test_without_a_superuser_one_has_to_name_somebody():
    with pytest.raises(CommandError, match="createsuperuser"):
        call_command("tasks", "list")


# --- executions ---


def test_executions_are_found():
    old = execution(status=ExecutionStatus.FAILURE, scheduled_time=timezone.now() - timedelta(hours=2))
    new = execution(status=ExecutionStatus.SUCCESS)
    assert [row["id"] for row in run("executions", "list")] == [new.pk, old.pk]
    for options, found in (
        (["--status", "failure"], [old.pk]),
        (["--since", "1h"], [new.pk]),
        (["--since", "2026-01-01T00:00:00Z"], [new.pk, old.pk]),
        (["--task", new.task_name], [new.pk]),
        (["--host", "nobody"], []),
        (["--run", old.run_id], [old.pk]),
        (["--limit", "1"], [new.pk]),
    ):
        assert [row["id"] for row in run("executions", "list", *options)] == found, options
    for wrong in (["--since", "yesterday"], ["--since", "2026-01-01"], ["--limit", "0"], ["--task", "no"]):
        with pytest.raises(CommandError):
            call_command("executions", "list", *wrong)
    assert moment("7d") < timezone.now()


def test_one_execution_and_its_output():
    made = execution()
    ExecutionLog.objects.create(execution=made, output="out\n", error_msg="err\n", truncated=True, size=99)
    assert run("executions", "show", str(made.pk))["execution_id"] == made.execution_id
    assert made.execution_id in text("executions", "show", str(made.pk))
    assert run("executions", "log", str(made.pk))["output"] == "out\n"
    assert text("executions", "log", str(made.pk)) == "out\nerr\ncut: the host keeps all 99 bytes\n"
    user = people.stranger()
    assign_perm("tasks_app.view_task", user, made.task)
    with pytest.raises(CommandError, match="permission"):
        call_command("executions", "log", str(made.pk), "--user", user.username)
    with pytest.raises(CommandError, match="no execution 999"):
        call_command("executions", "show", "999")


def test_executions_are_cancelled():
    made = execution()
    assert [row["status"] for row in run("executions", "cancel", str(made.pk))] == ["cancelled"]
    with pytest.raises(CommandError, match="ended already"):
        call_command("executions", "cancel", str(made.pk))


def test_the_tail_tells_of_what_is_new_and_what_changes():
    before = execution()
    done = execution(status=ExecutionStatus.SUCCESS)
    follower = Follower(Execution.objects.all())
    assert follower.step() == []
    new = execution()
    assert follower.step() == [new]
    Execution.objects.filter(pk__in=[before.pk, new.pk]).update(status=ExecutionStatus.RUNNING)
    assert [row.pk for row in follower.step()] == [before.pk, new.pk]
    Execution.objects.filter(pk=new.pk).update(
        status=ExecutionStatus.FAILURE, duration=12, failure_reason="exit_code"
    )
    (ended,) = follower.step()
    assert line(ended, as_json=False).endswith("failure after 12 ms (exit_code)")
    assert json.loads(line(ended, as_json=True))["status"] == "failure"
    assert follower.step() == []
    assert done.pk not in follower._open


def test_the_tail_ends_with_ctrl_c(monkeypatch):
    people.admin()

    def interrupt(_seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("executions_app.management.commands.executions.time.sleep", interrupt)
    assert text("executions", "tail") == ""


# --- groups ---


def test_groups_are_made_changed_shown_and_deleted():
    people.admin()
    (row,) = run("groups", "create", "web", "--tags", "prod,front", "--description", "Web")
    assert (row["name"], row["tags"], row["hosts"]) == ("web", "prod,front", 0)
    run("groups", "create", "db")
    assert [row["name"] for row in run("groups", "list", "--tag", "prod")] == ["web"]
    assert run("groups", "change", "web", "--name", "front")[0]["tags"] == "prod,front"
    people.online_client(in_group=Group.objects.get(name="front"))
    assert [row["client_id"] for row in run("groups", "show", "front")] == ["web-1"]
    people.task(group_ids=[Group.objects.get(name="front").pk])
    with pytest.raises(CommandError, match="job"):
        call_command("groups", "delete", "front")
    assert run("groups", "delete", "db")[0]["name"] == "db"
    with pytest.raises(CommandError, match="there is no group 'db'"):
        call_command("groups", "show", "db")
    with pytest.raises(CommandError, match=r"^name: "):
        call_command("groups", "create", "front")


def test_hosts_are_moved_and_the_rules_applied():
    client, web, user = people.online_client(), people.group("web"), people.admin()
    assert run("groups", "move", "web", "web-1")[0]["group"] == "web"
    assert run("groups", "move", "-", "web-1")[0]["group"] is None
    with pytest.raises(CommandError, match="there is no host 'x'"):
        call_command("groups", "move", "web", "web-1", "x")
    rule_actions.do_save_rule(user, {"name": "r", "hostname": "*", "group_id": web.pk})
    moved = [{"client_id": "web-1", "from": None, "to": "web", "rule": "r"}]
    assert run("groups", "apply-rules", "--dry-run") == moved
    client.refresh_from_db()
    assert client.group is None
    assert run("groups", "apply-rules", "--only-without-group") == moved
    client.refresh_from_db()
    assert client.group == web
