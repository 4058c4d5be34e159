"""Every change of a task's definition is a version, which can be read, compared and gone back to."""

import pytest
from django.utils import translation
from guardian.shortcuts import assign_perm

from executions_app import control
from executions_app.dispatch import Firing, fire
from executions_app.models import Execution
from quartzflow.audit import MASK
from quartzflow.errors import Conflict, InvalidInput, NotAllowed, NotFound, PreconditionFailed
from quartzflow.models import AuditEntry
from tasks_app import actions, versions
from tasks_app.calendars import do_delete_calendar, do_save_calendar
from tasks_app.models import Task, TaskVersion
from tests import people

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _english():
    with translation.override("en"):
        yield


def history(task):
    rows = versions.versions_of(task)
    return [(row.number, row.action, row.changed) for row in rows]


def test_each_change_is_a_version_and_what_changes_nothing_is_none():
    task = people.task()
    actions.do_update_task(people.admin(), task, {"timeout": 20, "labels": {"team": "a"}})
    actions.do_update_task(people.admin(), task, {"timeout": 20})
    actions.do_set_enabled(people.admin(), [task], False)
    actions.do_set_enabled(people.admin(), [task], False)
    actions.do_update_task(people.admin(), task, {"group_ids": [people.group("db").pk]})
    assert history(task) == [
        (4, "update", ["groups"]),
        (3, "disable", ["status"]),
        (2, "update", ["timeout", "labels"]),
        (1, "create", []),
    ]
    assert {row.actor_name for row in versions.versions_of(task)} == {"admin"}


def test_what_expires_by_itself_is_a_version_of_the_system():
    task = people.task(schedule_type="once", cron_expr="", run_at=people.at(2030, 1, 1))
    actions.expire_once([task.pk])
    assert versions.versions_of(task)[0].actor_name == "system"


def test_the_first_change_keeps_what_was_before_there_were_versions():
    task = people.task()
    TaskVersion.objects.all().delete()
    actions.do_update_task(people.admin(), Task.objects.get(), {"timeout": 20})
    assert history(task) == [(2, "update", ["timeout"]), (1, "create", [])]
    assert versions.get_version(task, 1).definition["timeout"] == 300


def test_only_so_many_versions_are_kept(monkeypatch):
    monkeypatch.setattr(versions, "KEPT", 3)
    task = people.task()
    for timeout in range(20, 25):
        actions.do_update_task(people.admin(), task, {"timeout": timeout})
    assert [number for number, _action, _changed in history(task)] == [6, 5, 4]


def test_a_comparison_goes_into_the_configuration_and_shows_lines_of_texts():
    task = people.task(executor_config={"command": "a\nb\nc", "env": {"X": "1"}})
    config = {"command": "a\nB\nc", "env": {"X": "1"}, "umask": "022"}
    actions.do_update_task(people.admin(), task, {"executor_config": config, "timeout": 20})
    first, second = versions.get_version(task, 1), versions.get_version(task, 2)
    changes = versions.compare(people.admin(), first.definition, second.definition)
    assert [(c.field, c.before, c.after) for c in changes] == [
        ("executor_config.command", "a\nb\nc", "a\nB\nc"),
        ("executor_config.umask", None, "022"),
        ("timeout", 300, 20),
    ]
    assert changes[0].lines == ["@@ -1,3 +1,3 @@", " a", "-b", "+B", " c"]


def test_secrets_are_kept_for_going_back_and_never_shown():
    task = people.task(executor_config={"command": "x", "env": {"DB_PASSWORD": "old"}})
    new = {"command": "x", "env": {"DB_PASSWORD": "new"}}
    actions.do_update_task(people.admin(), task, {"executor_config": new})
    first, second = versions.get_version(task, 1), versions.get_version(task, 2)
    (change,) = versions.compare(people.admin(), first.definition, second.definition)
    assert (change.before, change.after) == ({"DB_PASSWORD": MASK}, {"DB_PASSWORD": MASK})
    control.do_restore_task(people.admin(), task, 1)
    assert Task.objects.get().executor_config["env"] == {"DB_PASSWORD": "old"}
    assert "old" not in str(AuditEntry.objects.values_list("changes", flat=True))


def test_going_back_is_an_edit_with_everything_that_belongs_to_it_but_the_status():
    calendar = do_save_calendar(people.admin(), {"name": "busy", "rules": {"dates": ["2026-01-01"]}})
    parent = people.task("parent")
    task = people.task(
        calendar_id=calendar.pk, dependencies=[{"task_id": parent.pk, "condition": "failure"}],
        start_at=people.at(2026, 1, 1),
    )  # fmt: skip
    before = versions.definitions([task])[task.pk]
    data = {
        "cron_expr": "0 3 * * *",
        "group_ids": [people.group("db").pk],
        "calendar_id": None,
        "dependencies": [],
    }
    actions.do_update_task(people.admin(), task, {**data, "start_at": None})
    actions.do_set_enabled(people.admin(), [task], False)
    version = task.version
    control.do_restore_task(people.admin(), Task.objects.get(pk=task.pk), 1)
    task = Task.objects.get(pk=task.pk)
    after = versions.definitions([task])[task.pk]
    assert after == {**before, "status": 0}
    assert task.version > version
    newest = versions.versions_of(task)[0]
    assert (newest.action, newest.origin) == ("restore", 1)
    assert AuditEntry.objects.order_by("pk").last().action == "task.update"
    with pytest.raises(Conflict, match="already"):
        control.do_restore_task(people.admin(), task, 1)


def test_what_is_no_longer_there_is_named():
    calendar = do_save_calendar(people.admin(), {"name": "busy", "rules": {"dates": ["2026-01-01"]}})
    old, parent = people.group("old"), people.task("parent")
    task = people.task(group_ids=[old.pk], calendar_id=calendar.pk, dependencies=[{"task_id": parent.pk}])
    data = {"group_ids": [people.group().pk], "calendar_id": None, "dependencies": []}
    actions.do_update_task(people.admin(), task, data)
    old.delete()
    do_delete_calendar(people.admin(), calendar)
    actions.do_delete_tasks(people.admin(), [parent])
    with pytest.raises(InvalidInput) as error:
        control.do_restore_task(people.admin(), task, 1)
    assert error.value.errors == {
        "group_ids": ["No longer there: old."],
        "dependencies": ["No longer there: parent."],
        "calendar_id": ["No longer there: busy."],
    }
    assert len(history(task)) == 2


def test_going_back_is_refused_while_the_task_executes_unless_forced():
    people.online_client()
    task = people.task()
    actions.do_update_task(people.admin(), task, {"timeout": 20})
    fire([Firing(task.pk, people.at(2026, 1, 1))])
    Execution.objects.update(status=2)
    with pytest.raises(Conflict):
        control.do_restore_task(people.admin(), Task.objects.get(), 1)
    control.do_restore_task(people.admin(), Task.objects.get(), 1, force=True)
    assert Task.objects.get().timeout == 300


def test_rights_to_see_a_task_are_not_rights_to_change_it_back():
    task = people.task()
    actions.do_update_task(people.admin(), task, {"timeout": 20})
    with pytest.raises(NotFound):
        control.do_restore_task(people.stranger(), task, 1)
    assign_perm("tasks_app.view_task", people.stranger(), task)
    with pytest.raises(NotAllowed):
        control.do_restore_task(people.stranger(), task, 1)
    with pytest.raises(NotFound):
        control.do_restore_task(people.admin(), task, 99)


def test_going_back_leaves_what_one_may_not_see():
    seen, hidden, gone = people.task("seen"), people.task("hidden"), people.task("confidential")
    dark, light = people.group("dark"), people.group("light")
    task = people.task(group_ids=[light.pk], dependencies=[{"task_id": seen.pk}])
    bound = {
        "group_ids": [dark.pk],
        "dependencies": [{"task_id": hidden.pk, "condition": "always"}],
        "timeout": 20,
    }
    actions.do_update_task(people.admin(), task, bound)
    actions.do_update_task(
        people.admin(), task, {"dependencies": [*bound["dependencies"], {"task_id": gone.pk}]}
    )
    actions.do_update_task(people.admin(), task, {"dependencies": bound["dependencies"]})
    actions.do_delete_tasks(people.admin(), [gone])
    user = people.stranger()
    for permission in ("view_task", "change_task"):
        assign_perm(f"tasks_app.{permission}", user, task)
    assign_perm("tasks_app.view_task", user, seen)
    assign_perm("groups_app.view_group", user, light)
    control.do_restore_task(user, Task.objects.get(pk=task.pk), 1)
    task = Task.objects.get(pk=task.pk)
    assert task.timeout == 300
    assert set(task.groups.all()) == {dark, light}
    links = {(seen.pk, "success"), (hidden.pk, "always")}
    assert set(task.dependencies.values_list("parent_id", "condition")) == links
    with pytest.raises(Conflict, match="already"):  # what differs still is not for them to change
        control.do_restore_task(user, task, 1)
    with pytest.raises(InvalidInput) as error:
        control.do_restore_task(user, task, 3)
    assert error.value.errors == {"dependencies": [f"No longer there: #{gone.pk}."]}
    control.do_restore_task(people.admin(), task, 1)
    assert set(task.dependencies.values_list("parent_id")) == {(seen.pk,)}


def test_going_back_binds_to_nothing_that_one_may_not_see():
    hidden = people.task("hidden")
    task, user = people.task(dependencies=[{"task_id": hidden.pk}]), people.stranger()
    actions.do_update_task(people.admin(), task, {"dependencies": []})
    for permission in ("view_task", "change_task"):
        assign_perm(f"tasks_app.{permission}", user, task)
    with pytest.raises(InvalidInput) as error:
        control.do_restore_task(user, Task.objects.get(pk=task.pk), 1)
    assert list(error.value.errors) == ["dependencies"]


def test_the_names_of_foreign_tasks_are_not_shown():
    parent, user = people.task("confidential"), people.stranger()
    task = people.task(dependencies=[{"task_id": parent.pk}])
    assign_perm("tasks_app.view_task", user, task)
    definition = versions.get_version(task, 1).definition
    assert versions.shown(user, [definition])[0]["dependencies"] == [
        {"task": f"#{parent.pk}", "condition": "success"}
    ]


def test_two_edits_of_the_same_task_do_not_lose_one():
    people.task()
    mine, yours = Task.objects.get(), Task.objects.get()
    actions.do_update_task(people.admin(), mine, {"timeout": 20})
    with pytest.raises(Conflict, match="changed meanwhile"):
        actions.do_update_task(people.admin(), yours, {"description": "x"})
    with pytest.raises(PreconditionFailed):
        actions.do_update_task(people.admin(), Task.objects.get(), {"timeout": 30}, expected=yours.version)
    with pytest.raises(PreconditionFailed):
        actions.do_delete_tasks(people.admin(), [Task.objects.get()], expected=yours.version)
    assert (Task.objects.get().timeout, Task.objects.get().description) == (20, "")


def test_a_copy_is_like_the_task_disabled_and_its_own():
    parent = people.task("parent")
    task = people.task(labels={"a": "b"}, dependencies=[{"task_id": parent.pk, "condition": "always"}])
    copy = actions.do_copy_task(people.admin("other"), task)
    first, second = versions.definitions([task, copy]).values()
    differing = {name for name in first if first[name] != second[name]}
    assert differing == {"name", "status"}
    assert (copy.created_by, copy.is_enabled, history(copy)) == ("other", False, [(1, "copy", [])])
    assert actions.do_copy_task(people.admin(), task).name != copy.name
    assert actions.do_copy_task(people.admin(), task, "third").name == "third"
    with pytest.raises(InvalidInput) as error:
        actions.do_copy_task(people.admin(), task, "third")
    assert list(error.value.errors) == ["name"]
    with pytest.raises(NotFound):
        actions.do_copy_task(people.stranger(), task)


def test_the_longest_name_can_be_copied():
    copy = actions.do_copy_task(people.admin(), people.task("长" * 128))
    assert len(copy.name) <= 128 and copy.name.startswith("长" * 100)


def test_many_tasks_cost_no_more_queries_than_one(django_assert_num_queries):
    tasks = [people.task(f"t{n}") for n in range(5)]
    with django_assert_num_queries(2):
        versions.definitions(tasks)
