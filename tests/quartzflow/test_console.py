"""The console's pages without a browser: rights, languages, preferences, query counts."""

from datetime import timedelta

import pytest
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone
from guardian.shortcuts import assign_perm
from quartzflow_agent.schedule import uuid7

from executions_app.dispatch import Firing, fire
from executions_app.models import Execution, ExecutionLog
from groups_app.models import Client
from quartzflow.models import UserPreference
from quartzflow.templatetags import console
from tests import people

pytestmark = pytest.mark.django_db

LISTS = (
    "tasks_app_task",
    "executions_app_execution",
    "groups_app_group",
    "groups_app_client",
    "auth_user",
    "auth_group",
)
ADDED = ("tasks_app_task", "groups_app_group", "auth_user", "auth_group")


def browser(user=None) -> Browser:
    found = Browser()
    found.force_login(user or people.admin())
    return found


def execution(task=None) -> Execution:
    if not Client.objects.exists():
        people.online_client()
    (made,) = fire([Firing((task or people.task()).pk, timezone.now(), uuid7())])
    return made


@pytest.mark.parametrize("name", LISTS)
def test_every_list_shows_for_an_administrator(name):
    execution()
    page = browser().get(reverse(f"admin:{name}_changelist"))
    assert page.status_code == 200
    assert b'id="result_list"' in page.content or name == "auth_group"


@pytest.mark.parametrize("name", ADDED)
def test_every_form_shows_for_an_administrator(name):
    assert browser().get(reverse(f"admin:{name}_add")).status_code == 200


def test_the_pages_of_one_object_show():
    made = execution()
    for name, pk in (
        ("executions_app_execution", made.pk),
        ("tasks_app_task", made.task_id),
        ("groups_app_group", people.group().pk),
        ("groups_app_client", people.group().clients.get().pk),
        ("auth_user", people.admin().pk),
    ):
        assert browser().get(reverse(f"admin:{name}_change", args=[pk])).status_code == 200, name


@pytest.mark.parametrize("name", LISTS)
def test_empty_lists_say_what_to_do_next(name):
    page = browser().get(reverse(f"admin:{name}_changelist"), {"q": "nothing-has-this-name"})
    assert b'class="empty"' in page.content


def test_a_stranger_sees_no_section_and_no_object():
    made = execution()
    stranger = browser(people.stranger())
    home = stranger.get(reverse("admin:index"))
    assert home.status_code == 200
    assert "tasks_app" not in str(home.context["navigation"])
    assert [item.label for section in home.context["navigation"] for item in section["items"]] == ["概览"]
    for name in LISTS:
        assert stranger.get(reverse(f"admin:{name}_changelist")).status_code == 403, name
    for name, pk in (("executions_app_execution", made.pk), ("tasks_app_task", made.task_id)):
        assert stranger.get(reverse(f"admin:{name}_change", args=[pk])).status_code == 404, name


def test_a_right_on_one_task_shows_that_task_and_its_executions_only():
    mine, other = people.task("mine"), people.task("other")
    execution(mine)
    execution(other)
    user = people.stranger()
    assign_perm("tasks_app.view_task", user, mine)
    page = browser(user)
    tasks = page.get(reverse("admin:tasks_app_task_changelist"))
    assert [task.name for task in tasks.context["cl"].result_list] == ["mine"]
    executions = page.get(reverse("admin:executions_app_execution_changelist"))
    assert {row.task_name for row in executions.context["cl"].result_list} == {"mine"}
    # To see is not to do, and not to read what it printed.
    assert page.post(reverse("admin:tasks_app_task_run", args=[mine.pk]), headers=AJAX).status_code == 403
    assert page.post(reverse("admin:tasks_app_task_run", args=[other.pk]), headers=AJAX).status_code == 404
    own = Execution.objects.get(task=mine)
    assert page.get(reverse("admin:executions_app_execution_change", args=[own.pk])).context["log"] is None
    assert page.get(reverse("admin:tasks_app_task_change", args=[mine.pk])).context["may_change"] is False


AJAX = {"X-Requested-With": "fetch"}


def test_everything_that_changes_something_is_a_post():
    task = people.task()
    made = execution(task)
    page = browser()
    for name, pk in (
        ("tasks_app_task_run", task.pk),
        ("tasks_app_task_enable", task.pk),
        ("tasks_app_task_disable", task.pk),
        ("tasks_app_task_remove", task.pk),
        ("executions_app_execution_cancel", made.pk),
        ("executions_app_execution_again", made.pk),
        ("groups_app_group_remove", people.group().pk),
        ("groups_app_client_revoke", people.group().clients.get().pk),
    ):
        assert page.get(reverse(f"admin:{name}", args=[pk])).status_code == 405, name
    assert page.get(reverse("admin:preferences")).status_code == 405


def test_posts_without_a_token_are_refused():
    strict = Browser(enforce_csrf_checks=True)
    strict.force_login(people.admin())
    assert strict.post(reverse("admin:tasks_app_task_run", args=[people.task().pk])).status_code == 403


def test_run_now_starts_executions_and_says_where_to_watch():
    people.online_client()
    task = people.task()
    answer = browser().post(reverse("admin:tasks_app_task_run", args=[task.pk]), headers=AJAX).json()
    (made,) = Execution.objects.filter(task=task)
    assert answer["executions"] == [made.pk]
    assert answer["url"] == reverse("admin:executions_app_execution_change", args=[made.pk])


def test_row_actions_work_without_scripts_too():
    task = people.task()
    page = browser().post(reverse("admin:tasks_app_task_disable", args=[task.pk]), follow=True)
    task.refresh_from_db()
    assert not task.is_enabled
    assert f"“{task.name}”已禁用。" in page.content.decode()


def test_what_cannot_be_done_is_said_in_words():
    made = execution()
    Execution.objects.filter(pk=made.pk).update(status=3)
    url = reverse("admin:executions_app_execution_cancel", args=[made.pk])
    answer = browser().post(url, headers=AJAX)
    assert (answer.status_code, answer.json()["message"]) == (409, "执行已经结束。")


def test_batch_actions_change_the_selected_tasks():
    first, second, third = (people.task(name) for name in ("a", "b", "c"))
    data = {"action": "disable_selected", "_selected_action": [first.pk, second.pk]}
    page = browser().post(reverse("admin:tasks_app_task_changelist"), data, follow=True)
    assert "已禁用 2 个任务。" in page.content.decode()
    for task, enabled in ((first, False), (second, False), (third, True)):
        task.refresh_from_db()
        assert task.is_enabled is enabled


@pytest.mark.parametrize("name", LISTS[:4])
def test_lists_cost_the_same_number_of_queries_for_many_rows(name, django_assert_max_num_queries):
    people.online_client()
    tasks = [people.task(f"job-{index}") for index in range(12)]
    fire([Firing(task.pk, timezone.now(), uuid7()) for task in tasks])
    page = browser()
    with django_assert_max_num_queries(24):
        page.get(reverse(f"admin:{name}_changelist"))


def test_executions_are_found_by_task_host_number_and_name():
    made = execution(people.task("日志清理"))
    execution(people.task("other"))
    page = browser()
    for words in ("日志", f"#{made.pk}", made.execution_id):
        found = (
            page.get(reverse("admin:executions_app_execution_changelist"), {"q": words})
            .context["cl"]
            .result_list
        )
        assert [row.pk for row in found] == [made.pk], words
    found = (
        page.get(reverse("admin:executions_app_execution_changelist"), {"q": "web-1"})
        .context["cl"]
        .result_list
    )
    assert len(found) == 2


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({}, 2),
        ({"status": "live"}, 1),
        ({"status": "bad"}, 1),
        ({"status": "4"}, 1),
        ({"status": "3"}, 0),
        ({"time": "hour"}, 1),
    ],
)
def test_executions_are_filtered(query, count):
    execution(people.task("now"))
    old = execution(people.task("old"))
    Execution.objects.filter(pk=old.pk).update(status=4, scheduled_time=timezone.now() - timedelta(days=40))
    found = (
        browser().get(reverse("admin:executions_app_execution_changelist"), query).context["cl"].result_list
    )
    assert len(found) == count


def test_output_is_escaped_everywhere():
    made = execution()
    evil = "<script>alert(1)</script>\x1b[31m</pre><b>"
    ExecutionLog.objects.update_or_create(execution=made, defaults={"output": evil, "error_msg": evil})
    people.group().__class__.objects.filter(pk=people.group().pk).update(description="<script>x</script>")
    page = browser()
    content = page.get(reverse("admin:executions_app_execution_change", args=[made.pk])).content.decode()
    assert "<script>alert" not in content
    assert "&lt;script&gt;alert(1)" in content
    assert b"<script>x" not in page.get(reverse("admin:groups_app_group_changelist")).content


def test_pages_may_open_the_live_socket_of_their_own_host_and_no_other():
    policy = browser().get(reverse("admin:index")).headers["Content-Security-Policy"]
    assert "default-src 'self';" in policy
    assert "connect-src 'self' ws://testserver" in policy
    secure = browser().get(reverse("admin:index"), secure=True).headers["Content-Security-Policy"]
    assert "connect-src 'self' wss://testserver" in secure


# --- language, time zone, preferences ---


def test_chinese_is_the_default_whatever_the_browser_says():
    page = Browser().get(reverse("admin:login"), headers={"Accept-Language": "en-US,en"})
    assert page.headers["Content-Language"] == "zh-hans"
    assert "登录" in page.content.decode()


def test_the_cookie_comes_before_the_default_and_the_user_before_the_cookie():
    visitor = Browser()
    answer = visitor.post(reverse("admin:preferences"), {"language": "en", "next": reverse("admin:login")})
    assert answer.headers["Location"] == reverse("admin:login")
    assert "Log in" in visitor.get(reverse("admin:login")).content.decode()
    user = people.stranger()
    UserPreference.objects.create(user=user, language="zh-hans")
    visitor.force_login(user)
    assert visitor.get(reverse("admin:index")).headers["Content-Language"] == "zh-hans"


def test_preferences_are_kept_and_answer_scripts_without_a_page():
    user = people.stranger()
    page = browser(user)
    answer = page.post(reverse("admin:preferences"), {"theme": "dark"}, headers=AJAX)
    assert answer.status_code == 204
    page.post(reverse("admin:profile"), {"language": "en", "timezone": "Europe/Berlin", "theme": "light"})
    stored = UserPreference.objects.get(user=user)
    assert (stored.language, stored.timezone, stored.theme, stored.shortcuts) == (
        "en",
        "Europe/Berlin",
        "light",
        False,
    )
    home = page.get(reverse("admin:index")).content.decode()
    assert 'lang="en"' in home
    assert 'data-theme-choice="light"' in home
    assert 'data-time-zone="Europe/Berlin"' in home


@pytest.mark.parametrize("data", [{"language": "xx"}, {"theme": "pink"}, {"timezone": "Mars/Olympus"}])
def test_preferences_that_do_not_exist_are_refused(data):
    user = people.stranger()
    page = browser(user)
    assert page.post(reverse("admin:preferences"), data).status_code == 400
    assert not UserPreference.objects.exists()
    assert Browser().post(reverse("admin:preferences"), data).status_code == 400


def test_a_wrong_time_zone_is_said_at_its_field():
    page = browser(people.stranger()).post(
        reverse("admin:profile"), {"timezone": "Mars/Olympus", "language": "en"}
    )
    assert page.status_code == 200
    assert "没有这个时区。" in page.content.decode()


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "javascript:alert(1)"])
def test_changing_the_language_leads_to_no_other_site(target):
    answer = Browser().post(reverse("admin:preferences"), {"language": "en", "next": target})
    assert answer.headers["Location"] == reverse("admin:index")


def test_a_time_zone_that_the_system_lost_does_not_break_pages():
    user = people.stranger()
    UserPreference.objects.create(user=user, timezone="Lost/Zone")
    assert b'data-time-zone="Asia/Shanghai"' in browser(user).get(reverse("admin:index")).content


# --- what templates say ---


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "—"),
        (0, "0 ms"),
        (999, "999 ms"),
        (2400, "2.4 s"),
        (185_000, "3 m 05 s"),
        (3_720_000, "1 h 02 m"),
    ],
)
def test_durations_read_well(value, text):
    assert console.milliseconds(value) == text


@pytest.mark.parametrize(
    ("delta", "text"),
    [
        (timedelta(seconds=1), "刚刚"),
        (timedelta(seconds=42), "42 秒前"),
        (timedelta(minutes=5), "5 分钟前"),
        (timedelta(hours=-3), "3 小时后"),
        (timedelta(days=2), "2 天前"),
    ],
)
def test_ago_uses_the_largest_unit(delta, text):
    assert console.ago(delta) == text


def test_a_count_of_very_many_rows_is_not_finished(monkeypatch):
    monkeypatch.setattr("quartzflow.console.base.COUNT_LIMIT", 3)
    for index in range(5):
        people.task(f"job-{index}")
    page = browser().get(reverse("admin:tasks_app_task_changelist"))
    assert page.context["cl"].paginator.capped
    assert ">3+<" in page.content.decode()


@pytest.mark.parametrize(
    ("query", "days", "count"), [({}, 1, 1), ({"days": "30"}, 30, 2), ({"days": "x"}, 1, 1)]
)
def test_the_overview_counts_over_the_days_chosen(query, days, count):
    first = timezone.localdate() - timedelta(days=days - 1)
    now, old = execution(people.task("now")), execution(people.task("old"))
    Execution.objects.filter(pk=now.pk).update(status=3)
    Execution.objects.filter(pk=old.pk).update(status=4, scheduled_time=timezone.now() - timedelta(days=9))
    page = browser().get(reverse("admin:index"), query)
    assert (page.context["asked"].range, page.context["in_range"]["total_count"]) == (str(days), count)
    assert f"?time={first}..{timezone.localdate()}" in page.content.decode()
