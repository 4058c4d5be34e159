"""Tasks out to files and back: everything by name, all or nothing, told beforehand."""

import io
import json
from datetime import UTC

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import translation
from guardian.shortcuts import assign_perm
from openpyxl import Workbook

from executions_app import control
from executions_app.dispatch import Firing, fire
from executions_app.models import Execution
from quartzflow.audit import MASK
from quartzflow.errors import InvalidInput
from quartzflow.models import AuditEntry
from tasks_app import exchange, versions
from tasks_app.calendars import do_save_calendar
from tasks_app.models import ConfigChange, Task, TaskVersion
from tests import people

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _english():
    with translation.override("en"):
        yield


def world():
    calendar = do_save_calendar(people.admin(), {"name": "busy", "rules": {"dates": ["2026-01-01"]}})
    parent = people.task("上游", group_ids=[people.group("db").pk])
    config = {"command": "set -e\nfind /var/log\n", "env": {"LANG": "C", "DB_PASSWORD": "s3cret"}}
    people.task(
        "job", executor_config=config, calendar_id=calendar.pk, labels={"team": "a"}, selector={"env": ["a", "b"]},
        dependencies=[{"task_id": parent.pk, "condition": "failure"}], start_at=people.at(2026, 1, 1), wave_size="20%",
        description="=1+1",
    )  # fmt: skip
    people.task("url", executor_type=2, executor_config={"url": "http://x/"}, is_global=True, group_ids=[],
                schedule_type="fixed_rate", cron_expr="", interval_seconds=60, status=0)  # fmt: skip


def take(rows, user=None, **how):
    return control.do_import_tasks(user or people.admin(), rows, **{"dry_run": False, **how})


def ends(outcomes):
    return {outcome.name: outcome.action for outcome in outcomes}


def state():
    return {task.name: versions.named(versions.definitions([task])[task.pk]) for task in Task.objects.all()}


@pytest.mark.parametrize("name", ["json", "yaml", "xlsx"])
def test_what_goes_out_comes_back_unchanged_and_makes_the_same_anew(name):
    world()
    before, changes = state(), ConfigChange.objects.count()
    data = exchange.export_tasks(people.admin(), Task.objects.order_by("name"), name)
    assert b"s3cret" not in data
    rows = exchange.read_tasks(data, name)
    assert set(ends(take(rows)).values()) == {"unchanged"}
    assert ConfigChange.objects.count() == changes  # nothing is pushed
    control.do_delete_tasks(people.admin(), Task.objects.all())
    refused = take(rows)
    assert [outcome.name for outcome in refused if "masked" in str(outcome.errors)] == ["job"]
    assert not Task.objects.exists()
    for row in rows:
        if row["name"] == "job":
            row["executor_config"]["env"]["DB_PASSWORD"] = "s3cret"
    assert set(ends(take(rows)).values()) == {"created"}
    assert state() == before
    assert {version.action for version in TaskVersion.objects.all()} == {"import"}


def test_a_change_is_told_beforehand_and_then_made():
    world()
    rows = [
        {"name": "job", "timeout": 20, "groups": ["db"], "dependencies": []},
        {"name": "new", "executor_config": {"command": "x"}, "cron_expr": "@daily", "groups": ["db"]},
        {"name": "上游", "timeout": 300},
    ]
    before, entries = state(), AuditEntry.objects.count()
    told = take(rows, dry_run=True)
    assert ends(told) == {"job": "changed", "new": "created", "上游": "unchanged"}
    assert told[0].changes == {
        "timeout": [300, 20],
        "groups": [["default"], ["db"]],
        "dependencies": [[{"task": "上游", "condition": "failure"}], []],
    }
    assert state() == before and AuditEntry.objects.count() == entries
    assert ends(take(rows)) == ends(told)
    assert (
        state()["job"]["timeout"] == 20
        and state()["job"]["executor_config"]["env"]["DB_PASSWORD"] == "s3cret"
    )
    assert AuditEntry.objects.order_by("pk").last().changes == {
        "created": 1, "changed": 1, "unchanged": 1, "refused": 0
    }  # fmt: skip


def test_one_refused_row_keeps_all_of_them_out_and_every_field_is_named():
    people.task("taken")
    good = {"executor_config": {"command": "x"}, "cron_expr": "@daily", "groups": ["default"]}
    rows = [
        {**good, "name": "good"},
        {**good, "name": "good"},
        {**good, "name": ""},
        {**good, "name": 7},
        {"name": "bad", "groups": ["nowhere"], "calendar": "never", "status": "on", "executor_type": "cobol",
         "run_at": "soon", "dependencies": [1], "owner": "root"},
        {**good, "name": "late", "cron_expr": "99 * * * *", "timeout": 1},
        {**good, "name": "orphan", "dependencies": ["nobody"]},
        {**good, "name": "lonely", "groups": []},
        {**good, "name": "secret", "executor_config": {"command": "x", "env": {"TOKEN": MASK}}},
    ]  # fmt: skip
    for dry_run in (True, False):
        outcomes = take(rows, dry_run=dry_run)
        assert [sorted(outcome.errors) for outcome in outcomes] == [
            [], ["name"], ["name"], ["name"],
            ["calendar", "cron_expr", "dependencies", "executor_config", "executor_type", "groups", "owner", "run_at",
             "status"],
            ["cron_expr", "timeout"], ["dependencies"], ["groups"], ["executor_config"],
        ]  # fmt: skip
        assert [task.name for task in Task.objects.all()] == ["taken"]


def test_tasks_of_one_file_may_wait_for_each_other_in_any_order_but_not_in_a_circle():
    people.task("a")
    people.task("b", dependencies=[{"task_id": Task.objects.get(name="a").pk}])
    rows = [{"name": "a", "dependencies": ["b"]}, {"name": "b", "dependencies": []}]
    assert ends(take(rows)) == {"a": "changed", "b": "changed"}
    rows = [{"name": "b", "dependencies": [{"task": "a", "condition": "always"}]}]
    (refused,) = take(rows)
    assert "wait for each other" in refused.errors["dependencies"][0]
    rows += [{"name": "a", "dependencies": ["b"]}]
    assert all("wait for each other" in o.errors["dependencies"][0] for o in take(rows))


def test_rights_are_those_of_the_single_write():
    task, user = people.task("job"), people.stranger()
    new = {"name": "new", "executor_config": {"command": "x"}, "groups": []}
    (refused,) = take([new], user)
    assert list(refused.errors) == ["non_field_errors"]
    assign_perm("tasks_app.view_task", user, task)
    user = type(user).objects.get(pk=user.pk)
    (refused,) = take([{"name": "job", "timeout": 20}], user)
    assert "permission" in refused.errors["non_field_errors"][0]
    assert ends(take([{"name": "job", "timeout": 300}], user)) == {"job": "unchanged"}
    assign_perm("tasks_app.change_task", user, task)
    user = type(user).objects.get(pk=user.pk)
    assert ends(take([{"name": "job", "timeout": 20}], user)) == {"job": "changed"}
    people.group("other")
    (refused,) = take([{"name": "job", "groups": ["other"]}], user)  # a group that one may not see
    assert list(refused.errors) == ["groups"]


def test_groups_and_calendar_that_one_may_not_see_stay():
    calendar = do_save_calendar(people.admin(), {"name": "busy", "rules": {"dates": ["2026-01-01"]}})
    hidden, seen, new = (people.group(name).pk for name in ("hidden", "seen", "new"))
    task, user = people.task("job", group_ids=[hidden, seen], calendar_id=calendar.pk), people.stranger()
    for permission in ("view_task", "change_task"):
        assign_perm(f"tasks_app.{permission}", user, task)
    for name in ("seen", "new"):
        assign_perm("groups_app.view_group", user, people.group(name))
    user = type(user).objects.get(pk=user.pk)
    whole = {"name": "job", "groups": ["hidden", "seen"], "calendar": "busy"}
    assert ends(take([whole], user)) == {"job": "unchanged"}
    (changed,) = take([{"name": "job", "groups": ["new"], "timeout": 20}], user)
    assert changed.changes["groups"] == [["hidden", "seen"], ["hidden", "new"]]
    assert set(task.groups.values_list("pk", flat=True)) == {hidden, new}
    assert Task.objects.get().calendar == calendar
    (refused,) = take([{"name": "another", "groups": ["hidden"]}], people.stranger("third"))
    assert "groups" in refused.errors


def test_parents_that_one_may_not_see_stay():
    hidden, seen, new = people.task("hidden"), people.task("seen"), people.task("new")
    task = people.task(
        "job", dependencies=[{"task_id": hidden.pk, "condition": "always"}, {"task_id": seen.pk}]
    )
    user = people.stranger()
    for permission in ("view_task", "change_task"):
        assign_perm(f"tasks_app.{permission}", user, task)
    for one in (seen, new):
        assign_perm("tasks_app.view_task", user, one)
    assign_perm("groups_app.view_group", user, people.group())
    user = type(user).objects.get(pk=user.pk)
    exported = [row for row in exchange.rows_of(user, [task]) if row["name"] == "job"]
    assert ends(take(exported, user)) == {"job": "unchanged"}
    whole = exchange.rows_of(people.admin(), [task])  # as somebody exported it who sees all
    assert ends(take(whole, user)) == {"job": "unchanged"}
    (changed,) = take([{"name": "job", "dependencies": ["new"]}], user)
    assert changed.changes["dependencies"] == [
        [{"task": f"#{hidden.pk}", "condition": "always"}, {"task": "seen", "condition": "success"}],
        [{"task": f"#{hidden.pk}", "condition": "always"}, {"task": "new", "condition": "success"}],
    ]
    bound = {(hidden.pk, "always"), (new.pk, "success")}
    assert set(task.dependencies.values_list("parent_id", "condition")) == bound
    (refused,) = take([{"name": "new", "dependencies": ["hidden"]}], user)
    assert refused.errors == {"dependencies": ["There is no task hidden."]}


def test_a_cycle_through_tasks_that_one_may_not_see_does_not_name_them():
    people.task("first")
    middle = people.task("confidential", dependencies=[{"task_id": Task.objects.get(name="first").pk}])
    people.task("last", dependencies=[{"task_id": middle.pk}])
    user = people.stranger()
    for name in ("first", "last"):
        assign_perm("tasks_app.view_task", user, Task.objects.get(name=name))
        assign_perm("tasks_app.change_task", user, Task.objects.get(name=name))
    (refused,) = take([{"name": "first", "dependencies": ["last"]}], type(user).objects.get(pk=user.pk))
    (text,) = refused.errors["dependencies"]
    assert "first" in text
    assert "last" in text
    assert "confidential" not in text


def test_names_of_foreign_tasks_do_not_go_out():
    parent, user = people.task("confidential"), people.stranger()
    task = people.task(dependencies=[{"task_id": parent.pk}])
    assign_perm("tasks_app.view_task", user, task)
    assert b"confidential" not in exchange.export_tasks(user, [task], "json")
    assert AuditEntry.objects.order_by("pk").last().action == "task.export"


def test_an_executing_task_is_changed_only_by_force():
    people.online_client()
    task = people.task()
    fire([Firing(task.pk, people.at(2026, 1, 1))])
    Execution.objects.update(status=2)
    (refused,) = take([{"name": "job", "timeout": 20}])
    assert "executing" in refused.errors["non_field_errors"][0]
    assert ends(take([{"name": "job", "timeout": 20}], force=True)) == {"job": "changed"}


def test_a_moment_without_a_zone_is_the_tasks_own_wall_clock():
    base = {
        "executor_config": {"command": "x"},
        "groups": ["default"],
        "schedule_type": "once",
        "cron_expr": "",
    }
    people.group()
    take([{**base, "name": "a", "timezone": "Asia/Tokyo", "run_at": "2030-01-01 09:00:00"}])
    assert Task.objects.get().run_at.astimezone(UTC) == people.at(2030, 1, 1)
    (refused,) = take([{**base, "name": "b", "timezone": "Mars/X", "run_at": "2030-01-01 09:00:00"}])
    assert "run_at" in refused.errors


def test_a_sheet_that_people_wrote():
    book = Workbook()
    for line in (
        ["name", "executor_config", "cron_expr", "groups", "timeout", "calendar"],
        ["job", '{"command": "date"}', "@daily", "default\ndb", 60, None],
        [7, '{"command": "date"}', "@daily", "default", None, None],
    ):
        book.active.append(line)
    out = io.BytesIO()
    book.save(out)
    people.group("default"), people.group("db")
    rows = exchange.read_tasks(out.getvalue(), "xlsx")
    assert set(ends(take(rows)).values()) == {"created"}
    assert (Task.objects.get(name="job").timeout, Task.objects.get(name="7").timeout) == (60, 300)
    book.active["B2"] = "{"
    out = io.BytesIO()
    book.save(out)
    with pytest.raises(InvalidInput) as error:
        exchange.read_tasks(out.getvalue(), "xlsx")
    assert "Row 2, executor_config" in error.value.errors["file"][0]


def test_there_is_a_limit(monkeypatch):
    monkeypatch.setattr(exchange, "MAX_TASKS", 1)
    with pytest.raises(InvalidInput):
        take([{"name": "a"}, {"name": "b"}])


def test_the_commands(tmp_path, capsys):
    world()
    file = tmp_path / "tasks.yaml"
    call_command("export_tasks", str(file), "--group", "db")
    assert "上游" in file.read_text() and "job" not in file.read_text()
    capsys.readouterr()
    call_command("export_tasks", "--format", "json")
    assert len(json.loads(capsys.readouterr().out)["tasks"]) == 3
    file.write_text(file.read_text().replace("timeout: 300", "timeout: 20"))
    call_command("import_tasks", str(file), "--user", "admin", "--dry-run", "--json")
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["name"], row["action"], row["changes"]) == ("上游", "changed", {"timeout": [300, 20]})
    assert Task.objects.get(name="上游").timeout == 300
    call_command("import_tasks", str(file), "--user", "admin")
    assert "changed" in capsys.readouterr().out
    assert Task.objects.get(name="上游").timeout == 20


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("- {name: a}", [], "refused"),
        ("- {name: a}", ["--user", "nobody"], "no active user"),
        ("{", [], "YAML"),
        (None, [], "no such file|No such file"),
    ],
)
def test_the_import_command_fails_loudly(tmp_path, text, options, words):
    people.admin()
    file = tmp_path / "tasks.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(CommandError, match=words):
        call_command("import_tasks", str(file), *(options or ["--user", "admin"]))


def test_the_export_command_wants_a_known_kind_of_file(tmp_path):
    people.admin()
    with pytest.raises(CommandError, match="json, yaml"):
        call_command("export_tasks", str(tmp_path / "tasks.txt"))
    with pytest.raises(CommandError, match="no group"):
        call_command("export_tasks", str(tmp_path / "tasks.json"), "--group", "nowhere")
    with pytest.raises(CommandError, match="directory"):
        call_command("export_tasks", str(tmp_path), "--format", "json")


def test_both_databases_hold_files_and_versions(each_database):
    with translation.override("en"):
        world()
        rows = exchange.read_tasks(
            exchange.export_tasks(people.admin(), Task.objects.order_by("name"), "yaml"), "yaml"
        )
        assert set(ends(take(rows)).values()) == {"unchanged"}
        rows[0]["timeout"] = 20
        assert list(ends(take(rows, dry_run=True)).values()).count("changed") == 1
        task = Task.objects.get(name=rows[0]["name"])
        assert task.timeout == 300
        take(rows)
        control.do_restore_task(people.admin(), Task.objects.get(pk=task.pk), 1)
        assert Task.objects.get(pk=task.pk).timeout == 300
        assert [version.number for version in versions.versions_of(task)] == [3, 2, 1]
