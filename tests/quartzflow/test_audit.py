"""The audit trail: complete, masked, append-only, and it shows when somebody has been at it."""

import json
from datetime import timedelta

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection, transaction
from django.test import Client, override_settings
from django.utils import timezone
from guardian.shortcuts import assign_perm, remove_perm
from knox.models import AuthToken

from quartzflow import audit, system_settings
from quartzflow.models import AppendOnlyError, AuditEntry
from quartzflow.tasks import forget_old
from tests import people


@pytest.fixture
def on(each_database):
    """Both databases."""


def broken():
    return [found.entry_id for found in audit.verify()]


def entry(action="task.update", **changes):
    return audit.record(people.admin(), action, people.group(), changes)


def raw(sql, *parameters):
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)


@pytest.mark.usefixtures("on")
class TestChain:
    def test_it_holds_when_nobody_was_at_it(self):
        for n in range(5):
            entry(n=n, text="日志", when=timezone.now(), none=None, pi=3.5)
        assert broken() == []

    @pytest.mark.parametrize(
        "column", ["actor_name", "address", "action", "object_id", "object_name", "request_id"]
    )
    def test_a_changed_entry_is_found(self, column):
        entry()
        victim = entry()
        entry()
        raw(f"UPDATE tb_audit_log SET {column} = 'x' WHERE id = %s", victim.pk)
        assert broken() == [victim.pk]

    def test_changed_content_is_found(self):
        victim = entry(limit=1)
        raw("UPDATE tb_audit_log SET changes = %s WHERE id = %s", '{"limit": 2}', victim.pk)
        assert broken() == [victim.pk]

    def test_a_removed_entry_is_found(self):
        entry()
        victim = entry()
        after = entry()
        raw("DELETE FROM tb_audit_log WHERE id = %s", victim.pk)
        assert broken() == [after.pk]
        raw("DELETE FROM tb_audit_log WHERE id = %s", after.pk)
        assert broken() == [None]

    def test_retention_lets_the_chain_begin_later(self):
        old = entry()
        raw("UPDATE tb_audit_log SET at = %s", timezone.now() - timedelta(days=400))
        kept = entry()
        before = AuditEntry.objects.filter(pk__lte=old.pk).count()
        assert audit.forget(timezone.now() - timedelta(days=365)) == before
        assert AuditEntry.objects.order_by("pk").first() == kept
        assert AuditEntry.objects.latest("pk").action == "audit.prune"
        assert broken() == []
        assert audit.forget(timezone.now() - timedelta(days=365)) == 0

    def test_retention_goes_step_by_step_and_by_the_setting(self, monkeypatch):
        for _ in range(5):
            entry()
        raw("UPDATE tb_audit_log SET at = %s", timezone.now() - timedelta(days=40))
        kept = entry()
        monkeypatch.setattr(audit, "AT_ONCE", 2)
        forget_old()
        assert AuditEntry.objects.filter(pk__lt=kept.pk).exists()  # by default they are kept for ever
        system_settings.do_change_settings(people.admin(), {"audit_days": 30})
        forget_old()
        assert AuditEntry.objects.order_by("pk").first() == kept
        assert broken() == []

    def test_who_cuts_off_the_oldest_by_hand_is_found(self):
        for _ in range(3):
            entry()
        second = AuditEntry.objects.order_by("pk")[1]
        raw("DELETE FROM tb_audit_log WHERE id <= %s", second.pk)
        raw("UPDATE tb_audit_head SET anchor = %s", second.hash)
        assert broken() == [None]

    def test_an_action_that_fails_leaves_no_entry(self):
        people.group()
        count = AuditEntry.objects.count()

        def fail():
            with transaction.atomic():
                entry()
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fail()
        assert AuditEntry.objects.count() == count
        assert broken() == []

    def test_the_old_key_still_proves_old_entries(self):
        # Overridden only here: when the test's rows are cleared away, entries are made with the usual key again.
        entry()
        old, new = settings.SECRET_KEY, "another-key-" + "y" * 40
        with override_settings(SECRET_KEY=new, SECRET_KEY_FALLBACKS=[old]):
            entry()
            assert broken() == []
        with override_settings(SECRET_KEY=new):
            assert broken() != []

    def test_nobody_in_the_product_can_change_it(self):
        found = entry()
        found.action = "x"
        for forbidden in (
            found.save,
            found.delete,
            AuditEntry.objects.all().delete,
            lambda: AuditEntry.objects.update(action="x"),
        ):
            with pytest.raises(AppendOnlyError):
                forbidden()


@pytest.mark.django_db
class TestContent:
    def test_secrets_are_masked_wherever_they_lie(self):
        found = entry(
            executor_config={
                "env": {"DB_PASSWORD": "hunter2", "PATH": "/bin"},
                "headers": {"Authorization": "Bearer x"},
            },
            api_key=["a", "b"],
            password="",
        )
        text = json.dumps(found.changes)
        assert "hunter2" not in text and "Bearer" not in text and '"a"' not in text
        assert found.changes["executor_config"]["env"]["PATH"] == "/bin"
        assert found.changes["password"] == ""

    def test_long_texts_are_cut(self):
        assert len(entry(script="x" * 5000).changes["script"]) == audit.MAX_TEXT + 1

    def test_sessions_and_their_failures(self, client: Client):
        user = people.admin()
        user.set_password("correct horse battery")
        user.save()
        client.post("/console/login/", {"username": "admin", "password": "wrong"}, REMOTE_ADDR="10.1.2.3")
        client.post("/console/login/", {"username": "admin", "password": "correct horse battery"})
        client.post("/console/logout/")
        failed, login, logout = AuditEntry.objects.filter(action__startswith="session.").order_by("pk")
        assert (failed.action, failed.address, failed.changes) == (
            "session.login_failed", "10.1.2.3", {"username": "admin"},
        )  # fmt: skip
        assert (login.action, login.actor_name, logout.action) == ("session.login", "admin", "session.logout")
        assert login.request_id
        assert "correct horse" not in json.dumps(list(AuditEntry.objects.values("changes")))

    def test_accounts_roles_and_rights(self):
        user = people.stranger()
        user.email = "s@example.org"
        user.set_password("something new")
        user.save()
        task = people.task()
        assign_perm("tasks_app.view_task", user, task)
        remove_perm("tasks_app.view_task", user, task)
        token = AuthToken.objects.create(user)[0]
        token.delete()
        user.groups.add(people.role("viewer"))
        user.is_staff = True
        user.save(update_fields=["is_staff"])
        user.delete()
        actions = list(
            AuditEntry.objects.filter(object_name="stranger").order_by("pk").values_list("action", flat=True)
        )
        assert actions == [
            "user.create", "user.update", "api_token.create", "api_token.delete", "user.rights", "user.update",
            "user.delete",
        ]  # fmt: skip
        update = AuditEntry.objects.filter(action="user.update").last()
        assert update.changes == {"email": ["", "s@example.org"], "password": audit.MASK}
        granted = AuditEntry.objects.get(action="permission.grant")
        assert granted.changes == {"holder": str(user), "permission": "view_task"}
        assert AuditEntry.objects.filter(action="permission.withdraw").exists()

    def test_a_login_changes_no_account(self, client: Client):
        people.admin()
        before = AuditEntry.objects.filter(action="user.update").count()
        client.force_login(people.admin())
        assert AuditEntry.objects.filter(action="user.update").count() == before


@pytest.mark.django_db
def test_the_command_says_what_it_finds(capsys):
    call_command("audit_verify")
    assert "the chain is whole" in capsys.readouterr().out
    victim = entry()
    raw("UPDATE tb_audit_log SET action = 'x' WHERE id = %s", victim.pk)
    with pytest.raises(SystemExit) as code:
        call_command("audit_verify", json=True)
    assert code.value.code == 1
    assert json.loads(capsys.readouterr().out)["broken"][0]["entry_id"] == victim.pk


@pytest.mark.django_db
def test_every_answer_has_a_request_id(client: Client):
    assert len(client.get("/healthz").headers["X-Request-ID"]) == 36
    own = client.get("/healthz", headers={"X-Request-ID": "my-request-1"})
    assert own.headers["X-Request-ID"] == "my-request-1"
    assert client.get("/healthz", headers={"X-Request-ID": "a b\nc"}).headers["X-Request-ID"] != "a b\nc"
