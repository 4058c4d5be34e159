"""Named secrets: encrypted at rest, used by whoever may, sent to the agents that need them, and never shown."""

import json
import os
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from guardian.shortcuts import assign_perm
from knox.models import AuthToken
from rest_framework.test import APIClient

from executions_app.instructions import load_tasks
from quartzflow import secrets
from quartzflow.errors import Conflict, InvalidInput, NotAllowed
from quartzflow.models import AuditEntry, Secret
from quartzflow.secrets import KeyMissing
from tasks_app.actions import do_update_task
from tasks_app.configs import config_delta, current_version, task_config
from tasks_app.secret_actions import do_create_secret, do_delete_secret, do_update_secret
from tests import people
from tests.quartzflow.test_console import browser

VALUE = "hunter2-hunter2"


@pytest.fixture(autouse=True)
def keys(settings, tmp_path: Path) -> Path:
    settings.QF_DATA_DIR = tmp_path
    return tmp_path / "secrets.key"


def secret(name="TOKEN", value=VALUE, user=None, **data):
    return do_create_secret(user or people.admin(), {"name": name, "value": value, **data})


def using(name="job", placeholder="{{ secrets.TOKEN }}", **fields):
    return people.task(name, executor_config={"command": "date", "env": {"T": placeholder}}, **fields)


def wired(task):
    return json.loads(task_config(task).executor_config.get("secrets", "{}"))


def api(user=None):
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {AuthToken.objects.create(user or people.admin())[1]}")
    return client


@pytest.mark.django_db
class TestAtRest:
    def test_the_database_holds_nothing_readable_and_the_key_is_private(self, keys):
        row = secret()
        assert VALUE not in row.ciphertext
        assert secrets.decrypt(Secret.objects.get()) == VALUE
        assert keys.stat().st_mode & 0o777 == 0o600

    def test_a_lost_or_foreign_key_is_told_clearly(self, keys):
        secret()
        secrets.self_test()
        keys.write_text(Fernet.generate_key().decode())
        with pytest.raises(KeyMissing, match="the secret TOKEN cannot be opened"):
            secrets.self_test()
        keys.unlink()
        with pytest.raises(KeyMissing, match="bring it back from a backup"):
            secrets.self_test()
        with pytest.raises(KeyMissing):
            secret("OTHER")  # no second key beside a lost one
        keys.write_text("nonsense")
        with pytest.raises(KeyMissing, match="no usable key"):
            secrets.self_test()

    def test_rows_cannot_be_exchanged(self):
        one, other = secret("ONE", "value-one"), secret("OTHER", "value-two")
        Secret.objects.filter(pk=one.pk).update(ciphertext=other.ciphertext)
        with pytest.raises(KeyMissing, match="stored as OTHER"):
            secrets.decrypt(Secret.objects.get(pk=one.pk))

    def test_rotation_leaves_nothing_for_the_old_key(self, keys, capsys):
        before = secret().ciphertext
        old = keys.read_text()
        call_command("rotate_secrets", json=True)
        assert json.loads(capsys.readouterr().out)["secrets"] == 1
        assert keys.read_text() != old and len(keys.read_text().split()) == 1
        assert Secret.objects.get().ciphertext != before
        assert secrets.decrypt(Secret.objects.get()) == VALUE
        assert AuditEntry.objects.filter(action="secret.rotate").exists()

    def test_a_rotation_that_cannot_open_them_changes_nothing(self, keys):
        row = secret()
        foreign = Fernet.generate_key().decode()
        keys.write_text(foreign)
        with pytest.raises(CommandError, match="TOKEN"):
            call_command("rotate_secrets")
        assert keys.read_text() == foreign
        assert Secret.objects.get().ciphertext == row.ciphertext

    def test_keys_of_the_environment_win(self, settings, keys):
        old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
        settings.ENV = type("Env", (), {"secrets_keys": (old,)})()
        secret()
        assert not keys.exists()
        settings.ENV.secrets_keys = (new, old)
        call_command("rotate_secrets")
        settings.ENV.secrets_keys = (new,)
        assert secrets.decrypt(Secret.objects.get()) == VALUE

    def test_two_processes_that_make_the_first_key_agree(self, keys, monkeypatch):
        link = os.link

        def late(source, target):
            keys.write_text(Fernet.generate_key().decode())
            link(source, target)

        monkeypatch.setattr(secrets.os, "link", late)
        secret()
        assert secrets.decrypt(Secret.objects.get()) == VALUE
        assert [path.name for path in keys.parent.iterdir()] == ["secrets.key"]


@pytest.mark.django_db
class TestInTasks:
    def test_agents_get_it_with_the_task_and_nobody_else_does(self):
        secret()
        secret("OTHER", "another-value")
        task, plain = using(), people.task("plain")
        assert wired(task) == {"TOKEN": VALUE}
        assert "secrets" not in task_config(plain).executor_config
        (prepared,) = load_tasks({task.pk}).values()
        assert json.loads(prepared.template.executor_config["secrets"]) == {"TOKEN": VALUE}
        assert prepared.template.executor_config["env"] == '{"T": "{{ secrets.TOKEN }}"}'

    def test_a_changed_value_is_pushed_and_dispatch_takes_it(self):
        row = secret()
        task = using()
        people.task("plain")
        people.online_client("web-1")
        load_tasks({task.pk})
        before = current_version()
        do_update_secret(people.admin(), row, {"value": "a-new-value"})
        delta = config_delta("web-1", before)
        assert [config.name for config in delta.tasks] == ["job"]
        assert json.loads(delta.tasks[0].executor_config["secrets"]) == {"TOKEN": "a-new-value"}
        template = load_tasks({task.pk})[task.pk].template
        assert json.loads(template.executor_config["secrets"]) == {"TOKEN": "a-new-value"}
        version = current_version()
        do_update_secret(people.admin(), row, {"description": "same value"})
        assert current_version() == version

    def test_one_that_cannot_be_opened_is_left_out_and_the_rest_goes_on(self, keys):
        secret()
        task = using()
        keys.write_text(Fernet.generate_key().decode())
        assert wired(task) == {}

    def test_many_tasks_cost_one_query(self):
        secret()
        for number in range(3):
            using(f"job{number}")
        people.online_client("web-1")
        with CaptureQueriesContext(connection) as queries:
            assert len(config_delta("web-1", 0).tasks) == 3
        assert sum("tb_secret" in query["sql"] for query in queries) == 1

    @pytest.mark.parametrize(
        ("executor", "config", "text"),
        [
            (1, {"command": "echo {{ secrets.TOKEN }}"}, "command"),
            (1, {"command": "date", "env": {"A": "{{ secrets.MISSING }}"}}, "MISSING"),
            (2, {"url": "http://example.org/{{ secrets.TOKEN }}"}, "headers, body, auth"),
            (3, {"plugin": "tcp_check", "params": {"a": "{{ secrets.TOKEN }}"}}, "params"),
            (1, {"command": "date", "secrets": {"TOKEN": "x"}}, "secrets"),
        ],
    )
    def test_where_it_cannot_stand_is_refused(self, executor, config, text):
        secret()
        with pytest.raises(InvalidInput) as error:
            people.task(executor_type=executor, executor_config=config)
        assert text in str(error.value.errors["executor_config"][0])

    def test_headers_and_bodies_take_it(self):
        secret()
        config = {
            "url": "https://example.org/", "headers": {"Authorization": "Bearer {{ secrets.TOKEN }}"},
            "body": '{"t": "{{ secrets.TOKEN }}"}',
        }  # fmt: skip
        assert wired(people.task(executor_type=2, executor_config=config)) == {"TOKEN": VALUE}

    def test_only_who_may_use_it_saves_a_task_with_it(self):
        row, task = secret(), using()
        editor = people.stranger()
        for action in ("view", "change"):
            assign_perm(f"tasks_app.{action}_task", editor, task)
        with pytest.raises(InvalidInput) as error:  # not even another field: it could make the task tell it
            do_update_task(editor, task, {"timeout": 60})
        assert "TOKEN" in str(error.value.errors["executor_config"])
        do_update_secret(people.admin(), row, {"users": ["stranger"]})
        editor = type(editor).objects.get(pk=editor.pk)
        task.refresh_from_db()
        assert do_update_task(editor, task, {"timeout": 60}).timeout == 60


@pytest.mark.django_db
class TestActions:
    def test_one_in_use_is_not_deleted_and_the_tasks_are_named(self):
        row = secret()
        task = using("nightly")
        with pytest.raises(Conflict, match="nightly"):
            do_delete_secret(people.admin(), row)
        owner = people.stranger()
        assign_perm("quartzflow.view_secret", owner, row)
        assign_perm("quartzflow.delete_secret", owner, row)
        with pytest.raises(Conflict) as error:
            do_delete_secret(type(owner).objects.get(pk=owner.pk), row)
        assert "nightly" not in str(error.value)  # who may not see the task does not learn of it
        do_update_task(people.admin(), task, {"executor_config": {"command": "date"}})
        do_delete_secret(people.admin(), row)
        assert not Secret.objects.exists()

    @pytest.mark.parametrize(
        ("data", "field"),
        [
            ({"name": "1a"}, "name"), ({"name": "a-b"}, "name"), ({"name": 5}, "name"), ({"name": ""}, "name"),
            ({"value": "short"}, "value"), ({"value": ""}, "value"), ({"value": "a\0bcdefgh"}, "value"),
            ({"value": "x" * 33000}, "value"), ({"description": "x" * 257}, "description"),
            ({"users": ["nobody"]}, "users"), ({"roles": "admin"}, "roles"), ({"other": 1}, "other"),
        ],
    )  # fmt: skip
    def test_what_is_wrong_is_named(self, data, field):
        with pytest.raises(InvalidInput) as error:
            do_create_secret(people.admin(), {"name": "TOKEN", "value": VALUE, **data})
        assert field in error.value.errors
        assert not Secret.objects.exists()

    def test_names_are_unique_and_stay(self):
        row = secret()
        with pytest.raises(InvalidInput) as error:
            secret()
        assert "name" in error.value.errors
        with pytest.raises(InvalidInput):
            do_update_secret(people.admin(), row, {"name": "OTHER"})

    def test_the_audit_tells_of_everything_but_the_value(self):
        row = secret(description="for the shop", roles=["viewer"])
        do_update_secret(people.admin(), row, {"value": "a-new-value", "roles": []})
        do_delete_secret(people.admin(), row)
        entries = AuditEntry.objects.filter(action__startswith="secret.").order_by("pk")
        assert [entry.action for entry in entries] == ["secret.create", "secret.update", "secret.delete"]
        text = json.dumps(list(AuditEntry.objects.values_list("changes", flat=True)))
        assert VALUE not in text and "a-new-value" not in text and row.ciphertext not in text

    def test_others_may_neither_make_nor_change_nor_see_them(self):
        row, stranger = secret(), people.stranger()
        with pytest.raises(NotAllowed):
            secret("OTHER", user=stranger)
        call = api(stranger)
        assert call.get("/api/v1/secrets").json()["data"]["total"] == 0
        assert call.get(f"/api/v1/secrets/{row.pk}").status_code == 404
        assert call.delete(f"/api/v1/secrets/{row.pk}").status_code == 404


@pytest.mark.django_db
class TestApi:
    def test_a_value_goes_in_and_never_comes_out(self):
        call = api()
        made = call.post(
            "/api/v1/secrets", {"name": "TOKEN", "value": VALUE, "users": ["admin"]}, format="json"
        )
        assert made.status_code == 201
        pk = made.json()["data"]["id"]
        using("nightly")
        answers = [
            made,
            call.get("/api/v1/secrets/"),
            call.get(f"/api/v1/secrets/{pk}"),
            call.patch(f"/api/v1/secrets/{pk}", {"value": VALUE + "!", "description": "new"}, format="json"),
            call.get("/api/v1/tasks"),
        ]
        assert all(answer.status_code in (200, 201) for answer in answers)
        assert all(VALUE not in answer.content.decode() for answer in answers)
        found = call.get(f"/api/v1/secrets/{pk}").json()["data"]
        assert (found["tasks"], found["users"], found["description"]) == (["nightly"], ["admin"], "new")
        refused = call.delete(f"/api/v1/secrets/{pk}")
        assert refused.status_code == 409 and "nightly" in refused.json()["message"]


@pytest.mark.django_db
class TestPages:
    def test_the_list_and_the_form_never_show_a_value(self, django_assert_max_num_queries):
        row = secret()
        using("nightly")
        person = browser()
        with django_assert_max_num_queries(14):
            listed = person.get(reverse("admin:quartzflow_secret_changelist"))
        page = browser().get(reverse("admin:quartzflow_secret_change", args=[row.pk]))
        for answer in (listed, page):
            assert "TOKEN" in answer.content.decode() and VALUE not in answer.content.decode()
        assert "nightly" in page.content.decode()

    def test_a_secret_is_made_changed_and_deleted(self):
        person = browser()
        add = reverse("admin:quartzflow_secret_add")
        wrong = person.post(add, {"name": "TOKEN", "value": "x"})
        assert wrong.context["form"].errors.keys() == {"value"}
        assert person.post(add, {"name": "TOKEN", "value": VALUE}).status_code == 302
        row = Secret.objects.get()
        change = reverse("admin:quartzflow_secret_change", args=[row.pk])
        person.post(change, {"description": "new", "value": ""})
        row.refresh_from_db()
        assert row.description == "new" and secrets.decrypt(row) == VALUE
        person.post(reverse("admin:quartzflow_secret_remove", args=[row.pk]))
        assert not Secret.objects.exists()

    def test_others_stay_out(self):
        row = secret()
        stranger = browser(people.stranger())
        assert stranger.get(reverse("admin:quartzflow_secret_add")).status_code == 403
        assert stranger.get(reverse("admin:quartzflow_secret_change", args=[row.pk])).status_code in (
            302,
            403,
            404,
        )
        reader = people.stranger("reader")
        assign_perm("quartzflow.view_secret", reader, row)
        page = reverse("admin:quartzflow_secret_change", args=[row.pk])
        assert browser(reader).get(page).status_code == 200
        assert browser(reader).post(page, {"value": "another-value"}).status_code == 403


def test_both_databases_find_push_and_refuse(each_database):
    row = secret()
    using("nightly", is_global=True)
    people.task("plain")
    people.online_client("web-1")
    before = current_version()
    do_update_secret(people.admin(), row, {"value": "a-new-value"})
    assert [config.name for config in config_delta("web-1", before).tasks] == ["nightly"]
    with pytest.raises(InvalidInput):
        secret()
    with pytest.raises(Conflict, match="nightly"):
        do_delete_secret(people.admin(), row)
    assert secrets.rotate() == 1
    assert secrets.decrypt(Secret.objects.get()) == "a-new-value"
