"""The task form of the console: every field arrives, errors stand where they belong."""

import pytest
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone
from guardian.shortcuts import assign_perm
from quartzflow_agent.schedule import uuid7

from executions_app.dispatch import Firing, fire
from executions_app.models import Execution
from tasks_app.calendars import do_save_calendar
from tasks_app.console.forms import NamedTexts, TaskForm
from tasks_app.models import Task
from tests import people

pytestmark = pytest.mark.django_db


@pytest.fixture
def browser() -> Browser:
    found = Browser()
    found.force_login(people.admin())
    return found


def filled(**changes):
    """What a browser sends for a valid new task."""
    data = {
        "name": "日志清理", "description": "", "enabled": "on", "schedule_type": "cron", "cron_expr": "0 2 * * *",
        "timezone": "Asia/Shanghai", "misfire_policy": "fire_once", "misfire_grace": "3600", "executor_type": "1",
        "config_command": "find /var/log\r\n", "config_method": "GET", "config_verify_tls": "on",
        "group_ids": [str(people.group().pk)], "routing": "broadcast", "spread_seconds": "0", "timeout": "300",
        "concurrency": "1",
        "concurrency_policy": "queue", "retry_count": "0", "retry_interval": "60", "retry_max_interval": "0",
        "calendar_mode": "not_on", "offline_policy": "fail", "dependency_mode": "all", "wave_max_failed": "0",
    }  # fmt: skip
    return {name: value for name, value in {**data, **changes}.items() if value is not None}


def add(browser, **changes):
    return browser.post(reverse("admin:tasks_app_task_add"), filled(**changes))


def errors(page):
    return {name: [str(text) for text in texts] for name, texts in page.context["form"].errors.items()}


def test_a_shell_task_is_made_from_the_form(browser):
    page = add(
        browser,
        config_env='PATH=/usr/local/bin:/usr/bin\nGREETING = "two\\nlines"',
        config_work_dir="/var/log",
        config_umask="022",
        config_nice="10",
        config_limits="memory_mb=512\nopen_files = 64",
        retry_count="3",
    )
    assert page.status_code == 302
    task = Task.objects.get(name="日志清理")
    assert task.executor_config == {
        "command": "find /var/log\n",
        "work_dir": "/var/log",
        "umask": "022",
        "nice": 10,
        "limits": {"memory_mb": 512, "open_files": 64},
        "env": {"PATH": "/usr/local/bin:/usr/bin", "GREETING": "two\nlines"},
    }
    assert (task.is_enabled, task.retry_count, list(task.groups.all())) == (True, 3, [people.group()])
    assert task.owner == people.admin()


def test_an_http_task_is_made_from_the_form(browser):
    page = add(
        browser, executor_type="2", config_url="https://example.com/x", config_method="POST", config_body="a=b",
        config_headers="Accept: application/json\nX-A: b:c", config_expected_status="200，204", config_verify_tls=None,
        config_auth="username=ops\npassword=p w", config_follow_redirects="on", config_expected_body="^ok$",
        enabled=None,
    )  # fmt: skip
    assert page.status_code == 302, errors(page)
    task = Task.objects.get()
    assert task.executor_config == {
        "auth": {"username": "ops", "password": "p w"},
        "follow_redirects": True,
        "expected_body": "^ok$",
        "url": "https://example.com/x",
        "method": "POST",
        "headers": {"Accept": "application/json", "X-A": "b:c"},
        "body": "a=b",
        "expected_status": [200, 204],
        "verify_tls": False,
    }
    assert not task.is_enabled


def test_a_plugin_task_is_made_from_the_form(browser):
    page = add(
        browser,
        executor_type="3",
        config_plugin="cleanup",
        config_params='days=7\nkeep=true\nname="7"\ntext=a b',
    )
    assert page.status_code == 302, errors(page)
    assert Task.objects.get().executor_config == {
        "plugin": "cleanup",
        "params": {"days": 7, "keep": True, "name": "7", "text": "a b"},
    }


def test_a_time_is_meant_in_the_tasks_zone(browser):
    page = add(
        browser, schedule_type="once", cron_expr="", run_at="2030-07-01T08:00:00", timezone="Europe/Berlin"
    )
    assert page.status_code == 302, errors(page)
    task = Task.objects.get()
    assert task.run_at == people.at(2030, 7, 1, 6, 0)
    form = browser.get(reverse("admin:tasks_app_task_change", args=[task.pk])).context["form"]
    assert 'value="2030-07-01T08:00:00"' in str(form["run_at"])


def test_saving_an_unchanged_form_changes_nothing(browser):
    add(
        browser, config_env='A="  x"\nB=\\n', config_interpreter="bash", start_at="2030-01-01T00:00:00", is_global="on",
        group_ids=[],
    )  # fmt: skip
    task = Task.objects.get()
    before = Task.objects.values().get()
    form = TaskForm(people.admin(), task)
    shown = {name: field.prepare_value(form[name].value()) for name, field in form.fields.items()}
    data = {name: value for name, value in shown.items() if value is not None and value is not False}
    page = browser.post(reverse("admin:tasks_app_task_change", args=[task.pk]), data)
    assert page.status_code == 302, errors(page)
    after = Task.objects.values().get()
    same = {name for name in before if before[name] == after[name]}
    assert set(before) - same <= {"version", "updated_at"}


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"name": ""}, "name", "必填"),
        ({"cron_expr": "61 * * * *"}, "cron_expr", "“分”段中的“61”超出 0 到 59"),
        ({"cron_expr": ""}, "cron_expr", ""),
        ({"timeout": "5"}, "timeout", "10"),
        ({"group_ids": []}, "group_ids", "至少选择一个分组"),
        ({"config_command": " "}, "config_command", "必填"),
        ({"config_env": "1A=b"}, "config_env", "不是有效的环境变量名"),
        ({"config_env": "no equals sign"}, "config_env", "第 1 行"),
        ({"config_work_dir": "relative"}, "config_work_dir", "绝对路径"),
        ({"config_nice": "20"}, "config_nice", "19"),
        ({"config_limits": "threads=1"}, "config_limits", "threads 不在"),
        ({"config_limits": "memory_mb=-1"}, "config_limits", "大于等于 1 的整数"),
        (
            {"executor_type": "2", "config_url": "http://x", "config_auth": "username=a"},
            "config_auth",
            "username 和 password",
        ),
        (
            {"executor_type": "2", "config_url": "http://x", "config_expected_body": "("},
            "config_expected_body",
            "正则表达式",
        ),
        ({"executor_type": "2", "config_url": "ftp://x"}, "config_url", "http://"),
        (
            {"executor_type": "2", "config_url": "http://x", "config_expected_status": "ok"},
            "config_expected_status",
            "200, 204",
        ),
        ({"schedule_type": "fixed_rate", "interval_seconds": ""}, "interval_seconds", ""),
        ({"schedule_type": "once", "run_at": "someday"}, "run_at", "日期时间"),
        ({"start_at": "2030-01-02T00:00:00", "end_at": "2030-01-01T00:00:00"}, "end_at", "晚于开始时间"),
    ],
)
def test_errors_stand_at_their_fields(browser, changes, field, words):
    page = add(browser, **changes)
    assert page.status_code == 200
    assert set(errors(page)) == {field}
    assert any(words in text for text in errors(page)[field]), errors(page)
    assert not Task.objects.exists()


def test_a_name_that_is_taken_is_said_at_the_name(browser):
    people.task("日志清理")
    assert set(errors(add(browser))) == {"name"}


def test_a_task_that_executes_is_edited_only_when_one_says_so(browser):
    people.online_client()
    task = people.task()
    fire([Firing(task.pk, timezone.now(), uuid7())])
    Execution.objects.update(status=2)
    url = reverse("admin:tasks_app_task_change", args=[task.pk])
    page = browser.post(url, filled(name="renamed"))
    assert set(errors(page)) == {"force"}
    assert Task.objects.get().name == "job"
    assert browser.post(url, filled(name="renamed", force="on")).status_code == 302
    assert Task.objects.get().name == "renamed"


def test_a_group_that_one_may_not_see_cannot_be_chosen():
    secret = people.group("secret")
    form = TaskForm(people.stranger(), None, filled(group_ids=[str(secret.pk)]))
    assert "group_ids" in form.errors


def test_tasks_to_run_after_are_named_in_rows(browser):
    first, second = people.task("first"), people.task("second")
    page = add(
        browser, dependency_mode="any", dependencies_task=["first", " second ", ""],
        dependencies_condition=["success", "always", "success"], wave_size="20%", wave_max_failed="10",
    )  # fmt: skip
    assert page.status_code == 302, errors(page)
    task = Task.objects.get(name="日志清理")
    found = set(task.dependencies.values_list("parent_id", "condition"))
    assert found == {(first.pk, "success"), (second.pk, "always")}
    assert (task.dependency_mode, task.wave_size, task.wave_max_failed) == ("any", "20%", 10)
    url = reverse("admin:tasks_app_task_change", args=[task.pk])
    assert [row["name"] for row in browser.get(url).context["form"]["dependencies"].value()] == [
        "first",
        "second",
    ]
    browser.post(url, filled(dependencies_task=["second"], dependencies_condition=["failure"]))
    assert set(task.dependencies.values_list("parent_id", "condition")) == {(second.pk, "failure")}


def test_a_cycle_of_tasks_is_refused_with_its_path(browser):
    first = people.task("first")
    add(browser, dependencies_task=["first"], dependencies_condition=["success"])
    url = reverse("admin:tasks_app_task_change", args=[first.pk])
    page = browser.post(
        url, filled(name="first", dependencies_task=["日志清理"], dependencies_condition=["success"])
    )
    assert set(errors(page)) == {"dependencies"}
    assert "first → 日志清理 → first" in errors(page)["dependencies"][0]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ((["nothing"], ["success"]), "没有名为 nothing 的任务"),
        ((["first"], ["someday"]), "不是可选值"),
        ((["first", "first"], ["success", "always"]), ""),
    ],
)
def test_rows_that_cannot_be_are_said_at_the_list(browser, rows, words):
    people.task("first")
    page = add(browser, dependencies_task=rows[0], dependencies_condition=rows[1])
    assert set(errors(page)) == {"dependencies"}
    assert words in errors(page)["dependencies"][0]
    assert [row["name"] for row in page.context["form"]["dependencies"].value()] == rows[0]


def test_parents_that_one_may_not_see_stay(browser):
    people.task("secret one")
    seen = people.task("seen")
    add(browser, dependencies_task=["secret one"], dependencies_condition=["always"])
    task = Task.objects.get(name="日志清理")
    user = people.stranger()
    for permission in ("view_task", "change_task"):
        assign_perm(f"tasks_app.{permission}", user, task)
    assign_perm("tasks_app.view_task", user, seen)
    assign_perm("groups_app.view_group", user, people.group())
    other = Browser()
    other.force_login(user)
    url = reverse("admin:tasks_app_task_change", args=[task.pk])
    page = other.get(url)
    shown = page.context["form"]
    assert (shown["dependencies"].value(), shown.hidden_parents) == ([], 1)
    assert "另有 1 个您无权查看的前置任务" in page.content.decode()
    assert "secret one" not in page.content.decode()
    assert "您无权查看的前置任务" not in browser.get(url).content.decode()
    for chosen in (["seen"], []):
        page = other.post(
            url, filled(dependencies_task=chosen, dependencies_condition=["success" for _ in chosen])
        )
        assert page.status_code == 302, errors(page)
        found = set(task.dependencies.values_list("parent__name", "condition"))
        assert found == {("secret one", "always"), *((name, "success") for name in chosen)}


@pytest.mark.parametrize("chosen", [["seen"], []])
def test_groups_and_a_calendar_that_one_may_not_see_stay(browser, chosen):
    calendar = do_save_calendar(people.admin(), {"name": "busy", "rules": {"dates": ["2026-01-01"]}})
    hidden, seen = people.group("hidden"), people.group("seen")
    task = people.task(group_ids=[hidden.pk, seen.pk], calendar_id=calendar.pk)
    user = people.stranger()
    for permission in ("view_task", "change_task"):
        assign_perm(f"tasks_app.{permission}", user, task)
    assign_perm("groups_app.view_group", user, seen)
    other = Browser()
    other.force_login(user)
    url = reverse("admin:tasks_app_task_change", args=[task.pk])
    page = other.get(url)
    assert "您无权查看的分组" in page.content.decode()
    assert ">hidden<" not in page.content.decode()
    assert "您无权查看的分组" not in browser.get(url).content.decode()
    sent = filled(
        calendar_id=str(calendar.pk), group_ids=[str(people.group(name).pk) for name in chosen]
    )  # fmt: skip
    page = other.post(url, {**sent, "is_global": "on"})
    assert set(errors(page)) == {"is_global"}  # the hosts of groups that one may not see are among them
    page = other.post(url, sent)
    assert page.status_code == 302, errors(page)
    task.refresh_from_db()
    assert {group.name for group in task.groups.all()} == {"hidden", *chosen}
    assert (task.calendar, task.is_global) == (calendar, False)


def test_a_copy_begins_with_the_values_of_another_task(browser):
    task = people.task("daily", labels={"team": "billing"})
    form = browser.get(reverse("admin:tasks_app_task_add"), {"like": task.pk}).context["form"]
    assert form["name"].value() == "daily（副本）"
    assert (form["enabled"].value(), form["labels"].value()) == (False, "team=billing")
    assert form["group_ids"].value() == [people.group().pk]
    assert browser.get(reverse("admin:tasks_app_task_add"), {"like": 999}).status_code == 404


def test_the_form_is_checked_without_storing_anything(browser):
    url = reverse("admin:tasks_app_task_check")
    answer = browser.post(url, filled(cron_expr="61 * * * *", config_env="1A=b", name="")).json()
    assert set(answer["errors"]) == {"name"}  # shapes first
    answer = browser.post(url, filled(cron_expr="61 * * * *", config_env="1A=b")).json()
    assert set(answer["errors"]) == {"cron_expr", "config_env"}
    assert browser.post(url, filled()).json() == {"errors": {}}
    assert browser.get(url).status_code == 405
    task = people.task("daily")
    one = reverse("admin:tasks_app_task_check_one", args=[task.pk])
    assert browser.post(one, filled(name="daily")).json() == {"errors": {}}
    assert Task.objects.get().version == task.version
    other = Browser()
    other.force_login(people.stranger())
    assert other.post(url, filled()).status_code == 403
    assert other.post(one, filled()).status_code == 404


def test_a_test_run_from_the_form(browser):
    people.online_client("web-1")
    url = reverse("admin:tasks_app_task_test_run")
    answer = browser.post(url, filled(test_host="web-1"))
    assert answer.status_code == 200, answer.content
    state = reverse("admin:tasks_app_task_test_state", args=[answer.json()["id"]])
    assert browser.get(state).json()["live"] is True
    assert browser.post(state).json()["live"] is False
    assert browser.post(state).status_code == 409
    wrong = browser.post(url, filled(test_host="web-1", config_umask="9"))
    assert (wrong.status_code, set(wrong.json()["errors"])) == (400, {"config_umask"})
    assert browser.post(url, filled(test_host="nobody")).json()["message"]
    assert not Task.objects.exists()


def test_names_are_offered_to_those_who_may_see_them(browser):
    people.task("backup")
    people.online_client("web-1")
    names, hosts = reverse("admin:tasks_app_task_names"), reverse("admin:tasks_app_task_hosts")
    assert browser.get(names, {"q": "BACK"}).json() == {"names": ["backup"]}
    assert browser.get(hosts, {"q": "web"}).json() == {"names": ["web-1"]}
    other = Browser()
    other.force_login(people.stranger())
    assert other.get(names).json() == {"names": []}
    assert other.get(hosts).json() == {"names": []}


@pytest.mark.parametrize("typed", [False, True])
@pytest.mark.parametrize("value", ["", "x", " x ", '"quoted"', "a\nb", "7", "true", "a=b", "{", "null"])
def test_named_texts_survive_the_form(value, typed):
    field = NamedTexts(typed=typed)
    assert field.clean(field.prepare_value({"A": value})) == {"A": value}
