"""System settings: typed, checked, audited, in force without a restart."""

import pytest
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.urls import reverse
from knox.models import AuthToken
from rest_framework.test import APIClient

from executions_app import limits
from quartzflow import system_settings
from quartzflow.declared_settings import MAX_RUNNING, PAGE_SIZE
from quartzflow.errors import InvalidInput, NotAllowed
from quartzflow.models import AuditEntry, SystemSetting
from quartzflow.system_settings import Setting, do_change_settings, get, register
from tests import people
from tests.quartzflow.test_console import browser

pytestmark = pytest.mark.django_db
PAGE = "admin:quartzflow_systemsetting_changelist"


def api(user=None):
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {AuthToken.objects.create(user or people.admin())[1]}")
    return client


def with_right(codename):
    user = people.stranger(codename)
    user.user_permissions.add(Permission.objects.get(codename=codename))
    return type(user).objects.get(pk=user.pk)


def test_the_environment_gives_the_default_and_what_is_stored_wins(settings):
    settings.QF_MAX_RUNNING = 7
    assert get("max_running") == 7 and limits.are_set()
    do_change_settings(people.admin(), {"max_running": 0})
    assert MAX_RUNNING.value == 0 and not limits.are_set()
    do_change_settings(people.admin(), {"max_running": None})
    assert get("max_running") == 7
    assert not SystemSetting.objects.exists()


def test_every_change_is_audited_with_before_and_after():
    do_change_settings(people.admin(), {"page_size": 50, "api_rate": 10})
    do_change_settings(people.admin(), {"page_size": 50})  # no change
    found = AuditEntry.objects.filter(action="setting.update").order_by("pk")
    assert [(e.object_name, e.changes) for e in found] == [
        ("page_size", {"page_size": [20, 50]}),
        ("api_rate", {"api_rate": [3000, 10]}),
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("page_size", 0), ("page_size", 201), ("page_size", "20"), ("page_size", True), ("page_size", 2.5),
        ("no_such_setting", 1),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_and_nothing_is_stored(name, value):
    with pytest.raises(InvalidInput) as error:
        do_change_settings(people.admin(), {name: value, "api_rate": 5})
    assert list(error.value.errors) == [name]
    assert not SystemSetting.objects.exists()


@pytest.fixture
def declared():
    """Settings of every kind, for one test."""
    made = []

    def declare(**fields):
        setting = register(Setting(section="alerts", label="A test's", **fields))
        made.append(setting.name)
        return setting

    yield declare
    for name in made:
        del system_settings._registry[name]


@pytest.mark.parametrize(
    ("fields", "good", "kept", "bad"),
    [
        ({"kind": bool, "default": False}, True, True, 1),
        ({"kind": float, "default": 0.5, "minimum": 0}, 2, 2.0, float("nan")),
        ({"kind": str, "default": ""}, " a ", "a", "a\0"),
        ({"kind": str, "default": "a", "choices": (("a", "A"), ("b", "B"))}, "b", "b", "c"),
        ({"kind": list, "default": []}, [" 10.0.0.0/8 ", ""], ["10.0.0.0/8"], [1]),
        ({"kind": list, "default": []}, [], [], ["x"] * 201),
    ],
)
def test_the_kinds_of_values(declared, fields, good, kept, bad):
    setting = declared(name="of_a_test", **fields)
    assert setting.value == fields["default"]
    do_change_settings(people.admin(), {"of_a_test": good})
    assert setting.value == kept and type(setting.value) is type(kept)
    with pytest.raises(InvalidInput):
        do_change_settings(people.admin(), {"of_a_test": bad})


def test_a_setting_has_its_own_check(declared):
    def even(value):
        if value % 2:
            raise ValueError("Must be even.")
        return value

    declared(name="of_a_test", kind=int, default=2, check=even)
    with pytest.raises(InvalidInput) as error:
        do_change_settings(people.admin(), {"of_a_test": 3})
    assert error.value.errors == {"of_a_test": ["Must be even."]}


def test_a_name_is_registered_once(declared):
    declared(name="of_a_test", kind=int, default=2)
    with pytest.raises(ValueError, match="already"):
        declared(name="of_a_test", kind=int, default=3)


def test_another_process_sees_the_change_when_its_time_is_up(monkeypatch, django_assert_num_queries):
    now = [100.0]
    monkeypatch.setattr(system_settings.time, "monotonic", lambda: now[0])
    system_settings.forget()
    with django_assert_num_queries(1):
        assert (PAGE_SIZE.value, get("api_rate")) == (20, 3000)
    SystemSetting.objects.create(name="page_size", value=100)  # as another process does
    now[0] += system_settings.REFRESH - 0.1
    assert PAGE_SIZE.value == 20
    now[0] += 0.2
    assert PAGE_SIZE.value == 100


def test_only_those_with_the_right_see_and_change_them():
    nobody, reader, changer = (
        people.stranger(),
        with_right("view_systemsetting"),
        with_right("change_systemsetting"),
    )
    with pytest.raises(NotAllowed):
        do_change_settings(reader, {"page_size": 5})
    assert [api(user).get("/api/v1/settings").status_code for user in (nobody, reader, changer)] == [
        403,
        200,
        200,
    ]
    answers = [
        api(user).patch("/api/v1/settings", {"page_size": 5}, format="json")
        for user in (nobody, reader, changer)
    ]
    assert [answer.status_code for answer in answers] == [403, 403, 200]
    assert [browser(user).get(reverse(PAGE)).status_code for user in (nobody, reader, changer)] == [
        403,
        200,
        200,
    ]
    assert browser(reader).post(reverse(PAGE), {"page_size": "6"}).status_code == 403
    assert PAGE_SIZE.value == 5


def test_the_api_shows_and_stores_them():
    listed = {row["name"]: row for row in api().get("/api/v1/settings/").json()["data"]}
    assert set(listed) == {setting.name for setting in system_settings.registered()}
    assert {key: listed["page_size"][key] for key in ("type", "minimum", "maximum", "value", "changed")} == {
        "type": "integer", "minimum": 1, "maximum": 200, "value": 20, "changed": False,
    }  # fmt: skip
    answer = api().patch("/api/v1/settings", {"page_size": 2}, format="json").json()["data"]
    found = next(row for row in answer if row["name"] == "page_size")
    assert (found["value"], found["default"], found["updated_by"]) == (2, 20, "admin")
    for number in range(3):
        people.task(f"t{number}")
    assert len(api().get("/api/v1/tasks").json()["data"]["items"]) == 2
    wrong = api().patch("/api/v1/settings", {"page_size": 0}, format="json")
    assert wrong.status_code == 400
    assert list(wrong.json()["errors"]) == ["page_size"]


def test_the_page_stores_what_was_changed_and_empties_go_back():
    page = browser().get(reverse(PAGE))
    form = {name: field for name, field in page.context["form"].initial.items() if field is not False}
    answer = browser().post(reverse(PAGE), {**form, "page_size": "50", "audit_days": "30"})
    assert answer.status_code == 302
    assert dict(SystemSetting.objects.values_list("name", "value")) == {"page_size": 50, "audit_days": 30}
    browser().post(reverse(PAGE), {**form, "page_size": "", "audit_days": "30"})
    assert dict(SystemSetting.objects.values_list("name", "value")) == {"audit_days": 30}
    wrong = browser().post(reverse(PAGE), {**form, "page_size": "999"})
    assert wrong.context["form"].errors.keys() == {"page_size"}
    assert "必须在 1 到 200 之间" in wrong.content.decode()


def test_new_tasks_begin_with_the_defaults_that_are_set():
    do_change_settings(people.admin(), {"task_timeout": 60, "task_retry_count": 2, "task_retry_interval": 5})
    task, own = people.task(), people.task("own", timeout=20)
    assert (task.timeout, task.retry_count, task.retry_interval) == (60, 2, 5)
    assert (own.timeout, own.retry_count) == (20, 2)
    form = browser().get(reverse("admin:tasks_app_task_add")).context["form"]
    assert (form["timeout"].value(), form["retry_count"].value()) == (60, 2)


def test_failed_logins_lead_to_the_pause_that_is_set():
    user = people.admin()
    user.set_password("correct horse battery")
    user.save()
    do_change_settings(user, {"login_failures": 3})
    person = browser()
    person.logout()
    for _ in range(3):
        person.post("/console/login/", {"username": "admin", "password": "wrong"})
    answer = person.post("/console/login/", {"username": "admin", "password": "correct horse battery"})
    assert answer.status_code == 429


def test_the_migrations_are_complete():
    call_command("makemigrations", "quartzflow", check=True, dry_run=True, verbosity=0)
