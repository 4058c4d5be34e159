"""API tokens: good for what their scopes say, their owner's own, never more than the owner."""

import json
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.urls import get_resolver, reverse
from django.utils import timezone
from guardian.shortcuts import assign_perm
from knox.models import AuthToken
from rest_framework.test import APIClient

from quartzflow import tokens
from quartzflow.errors import InvalidInput, NotFound
from quartzflow.models import ApiToken, AuditEntry
from quartzflow.system_settings import do_change_settings
from quartzflow.tokens import Scope, do_create_token, do_revoke_token, needed_scope, tokens_of
from tests import people
from tests.quartzflow.test_console import browser

pytestmark = pytest.mark.django_db


def token(*scopes, user=None, **data):
    data = {"name": "ci", "days": 30, **data}
    if scopes:
        data["scopes"] = list(scopes)
    return do_create_token(user or people.admin(), data)


def with_token(text):
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {text}")
    return client


def api(*scopes, user=None):
    return with_token(token(*scopes, user=user)[1])


class TestScopes:
    def test_each_scope_lets_do_its_part_and_no_more(self):
        people.online_client()
        task = people.task()
        body = {"name": "other", "cron_expr": "* * * * *", "executor_config": {"command": "date"},
                "group_ids": [people.group().pk]}  # fmt: skip
        tried = {
            "read": lambda call: call.get("/api/v1/tasks"),
            "trigger": lambda call: call.post(f"/api/v1/tasks/{task.pk}/trigger", {}, format="json"),
            "batch trigger": lambda call: call.post(
                "/api/v1/tasks/batch", {"action": "trigger", "ids": [task.pk]}, format="json"
            ),
            "write": lambda call: call.post("/api/v1/tasks", body, format="json"),
            "batch write": lambda call: call.post(
                "/api/v1/tasks/batch", {"action": "disable", "ids": [task.pk]}, format="json"
            ),
        }
        allowed = {
            scopes: {name for name, ask in tried.items() if ask(api(*scopes)).status_code < 300}
            for scopes in (("read",), ("trigger",), ("read", "write"))
        }
        assert allowed == {
            ("read",): {"read"},
            ("trigger",): {"trigger", "batch trigger"},
            ("read", "write"): {"read", "write", "batch write"},
        }

    def test_the_refusal_says_what_is_missing(self):
        answer = api("read").delete(f"/api/v1/tasks/{people.task().pk}")
        assert answer.status_code == 403
        assert "write" in answer.json()["message"] and "read" in answer.json()["message"]

    def test_views_that_are_no_view_sets_and_the_metrics_ask_for_read(self):
        for path in ("/api/v1/scheduler", "/api/v1/settings", "/metrics"):
            assert api("trigger").get(path).status_code == 403, path
        assert api("read").patch("/api/v1/settings", {}, format="json").status_code == 403

    def test_a_token_never_gives_what_its_owner_has_not(self):
        stranger = people.stranger()
        task = people.task()
        call = api(user=stranger)
        assert call.get(f"/api/v1/tasks/{task.pk}").status_code == 404
        assign_perm("tasks_app.view_task", stranger, task)
        assert call.get(f"/api/v1/tasks/{task.pk}").status_code == 200
        assert call.post(f"/api/v1/tasks/{task.pk}/trigger", {}, format="json").status_code == 403

    def test_sessions_have_no_scopes(self):
        client = APIClient()
        client.force_login(people.admin())
        assert client.get("/api/v1/tasks").status_code == 200

    def test_what_runs_and_stops_tasks_needs_trigger_and_every_other_change_write(self):
        """Walks the API: a new action that runs or stops something must be named in TRIGGERING."""
        found = set()
        for pattern in get_resolver("quartzflow.api.urls").url_patterns:
            view = getattr(pattern.callback, "cls", None)
            for method, action in (getattr(pattern.callback, "actions", None) or {}).items():
                basename = pattern.callback.initkwargs["basename"]
                scope = needed_scope(method.upper(), basename, action)
                assert view is not None
                assert (scope == Scope.READ) == (method in ("get", "head")), (basename, action)
                if scope == Scope.TRIGGER:
                    found.add((basename, action))
                elif scope == Scope.WRITE and basename != "report":  # whose building is cancelled: no task
                    assert not {"trigger", "cancel", "retry", "run"} & set(action.split("_")), (
                        basename,
                        action,
                    )
        assert found == tokens.TRIGGERING

    def test_a_token_of_which_nothing_was_said_is_good_for_everything(self):
        made, text = AuthToken.objects.create(people.admin())
        assert ApiToken.objects.get(token=made).scope_list == ["read", "trigger", "write"]
        assert with_token(text).get("/api/v1/tasks").status_code == 200


class TestLife:
    @pytest.mark.parametrize(
        ("data", "field"),
        [
            ({"name": ""}, "name"), ({"name": "x" * 65}, "name"), ({"name": None}, "name"), ({"scopes": []}, "scopes"),
            ({"scopes": ["admin"]}, "scopes"), ({"scopes": "read"}, "scopes"), ({"days": 0}, "days"),
            ({"days": 366}, "days"), ({"days": True}, "days"), ({"user": "bob"}, "user"),
        ],
    )  # fmt: skip
    def test_what_is_wrong_is_named(self, data, field):
        with pytest.raises(InvalidInput) as error:
            do_create_token(people.admin(), {"name": "ci", **data})
        assert list(error.value.errors) == [field]
        assert not ApiToken.objects.exists()

    def test_the_longest_life_is_a_setting(self):
        do_change_settings(people.admin(), {"token_days": 7})
        with pytest.raises(InvalidInput):
            token(days=8)
        made, _ = token(days=7)
        assert made.token.expiry < timezone.now() + timedelta(days=7, minutes=1)

    def test_its_use_is_noted_now_and_then(self):
        made, text = token()
        call = with_token(text)
        call.get("/api/v1/tasks", REMOTE_ADDR="10.1.2.3")
        made.refresh_from_db()
        assert made.last_used_from == "10.1.2.3" and timezone.now() - made.last_used_at < timedelta(
            seconds=30
        )
        first = made.last_used_at
        call.get("/api/v1/tasks", REMOTE_ADDR="10.1.2.3")
        made.refresh_from_db()
        assert made.last_used_at == first
        call.get("/api/v1/tasks", REMOTE_ADDR="10.9.9.9")
        made.refresh_from_db()
        assert made.last_used_from == "10.9.9.9"

    def test_expired_and_revoked_ones_are_refused_and_not_listed(self):
        made, text = token()
        gone, gone_text = token()
        AuthToken.objects.filter(pk=made.token.pk).update(expiry=timezone.now() - timedelta(seconds=1))
        do_revoke_token(people.admin(), gone.pk)
        assert [with_token(one).get("/api/v1/tasks").status_code for one in (text, gone_text)] == [401, 401]
        assert not tokens_of(people.admin()).exists()

    def test_only_the_owner_revokes_it(self):
        made, _ = token()
        with pytest.raises(NotFound):
            do_revoke_token(people.stranger(), made.pk)

    def test_making_and_revoking_is_audited_without_the_token(self):
        made, text = token("read", name="pipeline")
        do_revoke_token(people.admin(), made.pk)
        create, delete = AuditEntry.objects.filter(action__startswith="api_token.").order_by("pk")
        assert (create.changes["label"], create.changes["scopes"]) == ("pipeline", "read")
        assert (delete.action, delete.changes["label"]) == ("api_token.delete", "pipeline")
        assert text not in json.dumps(list(AuditEntry.objects.values("changes")))


class TestApi:
    def test_one_lists_makes_and_revokes_ones_own(self):
        call = api()
        token(user=people.stranger())
        made = call.post("/api/v1/tokens", {"name": "pipeline", "scopes": ["read"], "days": 7}, format="json")
        assert made.status_code == 201
        data = made.json()["data"]
        assert with_token(data["text"]).get("/api/v1/tasks").status_code == 200
        listed = call.get("/api/v1/tokens/").json()["data"]
        assert [row["name"] for row in listed["items"]] == ["pipeline", "ci"]
        assert "text" not in listed["items"][0] and data["text"].startswith(listed["items"][0]["prefix"])
        assert call.delete(f"/api/v1/tokens/{data['id']}").status_code == 200
        assert with_token(data["text"]).get("/api/v1/tasks").status_code == 401
        for pk in (data["id"], "x", "9" * 30, ApiToken.objects.get(token__user__username="stranger").pk):
            assert call.delete(f"/api/v1/tokens/{pk}").status_code == 404

    def test_a_token_makes_none_that_is_good_for_more_or_lives_longer(self):
        call = api("read", "write")
        more = call.post(
            "/api/v1/tokens", {"name": "x", "scopes": ["read", "trigger"], "days": 1}, format="json"
        )
        longer = call.post("/api/v1/tokens", {"name": "x", "scopes": ["read"], "days": 60}, format="json")
        assert (more.status_code, list(more.json()["errors"])) == (400, ["scopes"])
        assert (longer.status_code, list(longer.json()["errors"])) == (400, ["days"])
        same = call.post("/api/v1/tokens", {"name": "x", "scopes": ["read"], "days": 29}, format="json")
        assert same.status_code == 201


class TestPage:
    def test_a_token_is_shown_once_and_revoked(self):
        person = browser()
        answer = person.post(
            reverse("admin:profile_tokens"), {"name": "ci", "days": "30", "scopes": ["read"]}
        )
        text = answer.context["made"][1]
        assert text in answer.content.decode() and "no-store" in answer["Cache-Control"]
        assert with_token(text).get("/api/v1/tasks").status_code == 200
        page = person.get(reverse("admin:profile")).content.decode()
        assert text not in page and "ci" in page
        pk = ApiToken.objects.get().pk
        assert (
            browser(people.stranger()).post(reverse("admin:profile_token_revoke", args=[pk])).status_code
            == 302
        )
        assert ApiToken.objects.filter(pk=pk).exists()
        script = {"X-Requested-With": "fetch"}
        answer = person.post(reverse("admin:profile_token_revoke", args=[pk]), headers=script)
        assert answer.json()["reload"] is True
        assert not ApiToken.objects.exists()
        assert (
            person.post(reverse("admin:profile_token_revoke", args=[pk]), headers=script).status_code == 404
        )

    def test_what_is_wrong_is_said_in_the_form(self):
        answer = browser().post(reverse("admin:profile_tokens"), {"name": "", "days": "30"})
        assert set(answer.context["token_form"].errors) == {"name", "scopes"}
        assert not ApiToken.objects.exists()

    def test_a_get_changes_nothing(self):
        made, _ = token()
        person = browser()
        assert person.get(reverse("admin:profile_token_revoke", args=[made.pk])).status_code == 405
        assert person.get(reverse("admin:profile_tokens")).status_code == 302


class TestCommand:
    def test_it_makes_one_with_scopes_and_an_end(self, capsys):
        people.admin()
        call_command(
            "api_token", "admin", "--scope", "read,trigger", "--expires", "2w", "--name", "ci", "--json"
        )
        told = json.loads(capsys.readouterr().out)
        made = ApiToken.objects.get(pk=told["id"])
        assert (made.name, told["scopes"]) == ("ci", ["read", "trigger"])
        assert timedelta(days=13) < made.token.expiry - timezone.now() < timedelta(days=14, minutes=1)
        assert with_token(told["token"]).get("/api/v1/tasks").status_code == 200

    @pytest.mark.parametrize(
        ("arguments", "option"),
        [
            (("--scope", "admin"), "--scope"), (("--expires", "never"), "--expires"),
            (("--expires", "9y"), "--expires"),
            (("--name", ""), "--name"), (("--expires", "1d", "--days", "1"), "--expires"),
        ],
    )  # fmt: skip
    def test_what_is_wrong_is_named(self, arguments, option):
        people.admin()
        with pytest.raises(CommandError, match=option):
            call_command("api_token", "admin", *arguments)
