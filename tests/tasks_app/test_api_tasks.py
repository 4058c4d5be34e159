"""Tasks by the API beyond the PRD's examples: versions, copies, many at once, files, and no lost update."""

import json

import pytest
from guardian.shortcuts import assign_perm

from executions_app.models import Execution
from tasks_app import actions
from tasks_app.models import Task
from tests import people
from tests.quartzflow.test_api import api

pytestmark = pytest.mark.django_db


def test_versions_are_listed_shown_compared_and_gone_back_to():
    task, call = people.task(), api()
    url = f"/api/v1/tasks/{task.pk}/versions"
    actions.do_update_task(people.admin(), task, {"timeout": 20})
    listed = call.get(url).json()["data"]
    assert listed["total"] == 2
    assert {k: listed["items"][0][k] for k in ("number", "action", "origin", "actor", "changed")} == {
        "number": 2, "action": "update", "origin": None, "actor": "admin", "changed": ["timeout"],
    }  # fmt: skip
    shown = call.get(f"{url}/1").json()["data"]["definition"]
    assert (shown["timeout"], shown["groups"], shown["calendar"]) == (300, ["default"], None)
    diff = call.get(f"{url}/diff", {"from": 1}).json()["data"]
    assert (diff["before"]["number"], diff["after"]["number"]) == (1, 2)
    assert diff["changes"] == [{"field": "timeout", "before": 300, "after": 20, "lines": []}]
    restored = call.post(f"{url}/1/restore").json()["data"]
    assert restored["timeout"] == 300
    assert call.post(f"{url}/1/restore", {"force": True}, format="json").status_code == 409
    assert call.get(f"{url}/diff", {"from": 1, "to": 3}).json()["data"]["changes"] == []
    for path in ("/9", "/diff?from=9", "/diff?from=1&to=9"):
        assert call.get(f"{url}{path}").status_code == 404
    for path in ("/diff", "/diff?from=x", "/diff?from=1&to="):
        assert call.get(f"{url}{path}").status_code == 400
    assert call.post(f"{url}/1/restore", {"force": "yes"}, format="json").json()["errors"]["force"]
    assert call.post(f"{url}/1/restore", {"forced": True}, format="json").json()["errors"]["forced"]


def test_an_update_names_the_version_that_it_was_made_for():
    task, call = people.task(), api()
    url = f"/api/v1/tasks/{task.pk}"
    tag = call.get(url)["ETag"]
    assert tag == f'"{call.get(url).json()["data"]["version"]}"'
    first = call.put(url, {"timeout": 20}, format="json", headers={"If-Match": tag})
    assert first.status_code == 200 and first["ETag"] != tag
    for send in (
        lambda: call.put(url, {"timeout": 30}, format="json", headers={"If-Match": tag}),
        lambda: call.patch(url, {"timeout": 30}, format="json", headers={"If-Match": "nonsense"}),
        lambda: call.delete(url, headers={"If-Match": tag}),
    ):
        refused = send()
        assert (refused.status_code, refused.json()["code"]) == (412, 1012)
    assert Task.objects.get().timeout == 20
    assert call.patch(url, {"timeout": 40}, format="json", headers={"If-Match": "*"}).status_code == 200
    tag = call.patch(url, {"timeout": 50}, format="json")["ETag"]
    assert call.delete(url, headers={"If-Match": f'"0", {tag}'}).status_code == 200


@pytest.mark.parametrize("method", ["put", "patch"])
def test_groups_that_one_may_not_see_stay(method):
    hidden, seen, foreign = (people.group(name).pk for name in ("hidden", "seen", "foreign"))
    task, user = people.task(group_ids=[hidden, seen]), people.stranger()
    for permission in ("view_task", "change_task"):
        assign_perm(f"tasks_app.{permission}", user, task)
    assign_perm("groups_app.view_group", user, people.group("seen"))
    send = getattr(api(user), method)
    url = f"/api/v1/tasks/{task.pk}"
    for given, bound in (
        ([seen], {hidden, seen}),
        ([], {hidden}),
        ([hidden, seen], {hidden, seen}),  # as it was read
        ([hidden], {hidden}),
    ):
        assert send(url, {"group_ids": given}, format="json").status_code == 200
        assert set(task.groups.values_list("pk", flat=True)) == bound
    refused = send(url, {"group_ids": [seen, foreign]}, format="json")
    assert (refused.status_code, list(refused.json()["errors"])) == (400, ["group_ids"])
    assert set(task.groups.values_list("pk", flat=True)) == {hidden}
    assert api().put(url, {"group_ids": [seen]}, format="json").status_code == 200
    assert set(task.groups.values_list("pk", flat=True)) == {seen}  # who sees all of them changes all of them


@pytest.mark.parametrize("method", ["put", "patch"])
def test_parents_that_one_may_not_see_stay_and_are_a_count(method):
    hidden, seen, foreign = (people.task(name).pk for name in ("hidden", "seen", "foreign"))
    task = people.task(dependencies=[{"task_id": hidden, "condition": "always"}, {"task_id": seen}])
    user = people.stranger()
    for permission in ("view_task", "change_task"):
        assign_perm(f"tasks_app.{permission}", user, task)
    assign_perm("tasks_app.view_task", user, Task.objects.get(pk=seen))
    call, url = api(user), f"/api/v1/tasks/{task.pk}"
    read = call.get(url).json()["data"]
    assert read["dependencies"] == [{"task_id": seen, "condition": "success"}]
    assert read["hidden_dependencies"] == 1
    assert call.get("/api/v1/tasks").json()["data"]["items"][0]["dependencies"] == read["dependencies"]
    kept = (hidden, "always")
    for given, bound in (
        (read["dependencies"], {kept, (seen, "success")}),  # as it was read
        ([{"task_id": seen, "condition": "failure"}], {kept, (seen, "failure")}),
        ([{"task_id": hidden, "condition": "failure"}], {kept}),  # nor can its condition be changed
        ([], {kept}),
    ):
        assert getattr(call, method)(url, {"dependencies": given}, format="json").status_code == 200
        assert set(task.dependencies.values_list("parent_id", "condition")) == bound
    refused = getattr(call, method)(url, {"dependencies": [{"task_id": foreign}]}, format="json")
    assert (refused.status_code, list(refused.json()["errors"])) == (400, ["dependencies"])
    whole = api().get(url).json()["data"]
    assert (len(whole["dependencies"]), whole["hidden_dependencies"]) == (1, 0)
    assert api().put(url, {"dependencies": []}, format="json").status_code == 200
    assert not task.dependencies.exists()  # who sees all of them changes all of them


def test_a_task_runs_on_every_host_only_by_somebody_who_may_see_every_group():
    task, user = people.task(), people.stranger()
    for permission in ("view_task", "change_task"):
        assign_perm(f"tasks_app.{permission}", user, task)
    assign_perm("groups_app.view_group", user, people.group())
    assign_perm("tasks_app.add_task", user)
    call, url = api(user), f"/api/v1/tasks/{task.pk}"
    everywhere = {
        "name": "new",
        "executor_config": {"command": "x"},
        "cron_expr": "@daily",
        "is_global": True,
    }
    for answer in (
        call.patch(url, {"is_global": True}, format="json"),
        call.post("/api/v1/tasks", everywhere, format="json"),
        call.post("/api/v1/tasks/import", [{"name": "job", "is_global": True}], format="json"),
    ):
        assert (answer.status_code, [name.split(".")[-1] for name in answer.json()["errors"]]) == (
            400,
            ["is_global"],
        )
    assert not Task.objects.filter(is_global=True).exists()
    assert api().patch(url, {"is_global": True}, format="json").status_code == 200
    assert call.patch(url, {"timeout": 20, "is_global": True}, format="json").status_code == 200  # as it was
    assert call.post(f"{url}/copy").status_code == 400
    assign_perm("groups_app.view_group", user)
    assert call.post("/api/v1/tasks", everywhere, format="json").status_code == 201


def test_what_one_has_made_is_ones_own():
    user = people.stranger()
    for permission in ("tasks_app.add_task", "groups_app.add_group"):
        assign_perm(permission, user)
    call = api(user)
    group = call.post("/api/v1/groups", {"name": "mine"}, format="json")
    assert group.status_code == 201
    body = {"name": "mine", "executor_config": {"command": "x"}, "cron_expr": "@daily"}
    made = call.post("/api/v1/tasks", {**body, "group_ids": [group.json()["data"]["id"]]}, format="json")
    assert made.status_code == 201
    url = f"/api/v1/tasks/{made.json()['data']['id']}"
    people.task("foreign")
    assert [task["name"] for task in call.get("/api/v1/tasks").json()["data"]["items"]] == ["mine"]
    assert call.patch(url, {"timeout": 20}, format="json").status_code == 200
    assert call.post(f"{url}/copy").status_code == 201
    assert call.delete(url).status_code == 200
    # Whoever sees all by a role has what the role gives, and no more.
    developer = people.stranger("developer")
    developer.groups.add(people.role("developer"))
    made = api(developer).post("/api/v1/tasks", {**body, "group_ids": [people.group().pk]}, format="json")
    assert api(developer).delete(f"/api/v1/tasks/{made.json()['data']['id']}").status_code == 403


def test_a_cycle_through_tasks_that_one_may_not_see_does_not_name_them():
    first, user = people.task("first"), people.stranger()
    secret = people.task("confidential", dependencies=[{"task_id": first.pk}])
    last = people.task("last", dependencies=[{"task_id": secret.pk}])
    for task in (first, last):
        assign_perm("tasks_app.view_task", user, task)
    assign_perm("tasks_app.change_task", user, first)
    given = {"dependencies": [{"task_id": last.pk}]}
    refused = api(user).patch(f"/api/v1/tasks/{first.pk}", given, format="json")
    (text,) = refused.json()["errors"]["dependencies"]
    assert f"first → #{secret.pk} → last → first" in text


@pytest.mark.usefixtures("each_database")
def test_the_list_is_filtered_by_owner_and_label_and_put_in_order():
    people.task("a", labels={"team": "billing", "env": "prod"}, timeout=20)
    people.task("b", labels={"team": "web"})
    people.task("c", labels={"team": "billing"}, status=0)
    Task.objects.filter(name="b").update(owner=people.stranger())
    call = api()

    def names(**query):
        return [item["name"] for item in call.get("/api/v1/tasks", query).json()["data"]["items"]]

    assert names(owner="stranger") == ["b"]
    assert names(owner="nobody") == []
    assert names(label="team=billing") == ["c", "a"]
    assert names(label=" team = billing ", status=1) == ["a"]
    for nothing in ("team", "team=", "=x", 'te"am=billing', "te\\am=x", "$.team=billing", "'=x"):
        assert names(label=nothing) == [], nothing
    assert names(ordering="-name") == ["c", "b", "a"]
    assert names(ordering="status,-id") == ["c", "b", "a"]
    assert names(ordering="status,name") == ["c", "a", "b"]
    assert names(ordering="-created_at") == ["c", "b", "a"]
    refused = call.get("/api/v1/tasks", {"ordering": "executor_config"})
    assert (refused.status_code, list(refused.json()["errors"])) == (400, ["ordering"])
    for name in ("db-1", "web-1"):
        people.online_client(name)
    hosts = call.get("/api/v1/clients", {"ordering": "-client_id"}).json()["data"]["items"]
    assert [host["client_id"] for host in hosts] == ["web-1", "db-1"]
    assert call.get("/api/v1/clients", {"ordering": "credential_hash"}).status_code == 400


def test_a_copy_gets_a_name_or_is_given_one():
    task, call = people.task(), api()
    made = call.post(f"/api/v1/tasks/{task.pk}/copy")
    assert (made.status_code, made.json()["data"]["status"]) == (201, 0)
    assert made.json()["data"]["name"] != task.name
    named = call.post(f"/api/v1/tasks/{task.pk}/copy", {"name": " other "}, format="json")
    assert named.json()["data"]["name"] == "other"
    for body in ({"name": "other"}, {"name": 7}, {"title": "x"}):
        assert call.post(f"/api/v1/tasks/{task.pk}/copy", body, format="json").status_code == 400


def test_many_at_once_all_of_them_or_none():
    people.online_client()
    tasks, call = [people.task(f"t{n}") for n in range(3)], api()
    ids = [task.pk for task in tasks]

    def batch(action, **body):
        return call.post("/api/v1/tasks/batch", {"action": action, "ids": ids, **body}, format="json")

    assert batch("disable").json()["data"] == {"count": 3, "execution_ids": []}
    assert batch("enable").json()["data"]["count"] == 3
    ran = batch("trigger", params={"DAY": "1"}).json()["data"]
    assert ran["count"] == 3
    assert set(ran["execution_ids"]) == set(Execution.objects.values_list("pk", flat=True))
    for body in (
        {"action": "explode"}, {"action": ["enable"]}, {"ids": []}, {"ids": [1.5]}, {"ids": [ids[0], 99999]},
        {"ids": [True]}, {"params": {"a": "b"}}, {"more": 1}, {"ids": list(range(1, 502))},
    ):  # fmt: skip
        assert batch(**{"action": "enable", **body}).status_code == 400, body
    user = people.stranger()
    for task in tasks:
        assign_perm("tasks_app.view_task", user, task)
    assign_perm("tasks_app.delete_task", user, tasks[0])
    refused = api(type(user).objects.get(pk=user.pk)).post(
        "/api/v1/tasks/batch", {"action": "delete", "ids": ids}, format="json"
    )
    assert refused.status_code == 403 and Task.objects.count() == 3
    assert batch("delete").json()["data"]["count"] == 3
    assert not Task.objects.exists()


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("json", "application/json"),
        ("yaml", "application/yaml"),
        ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ],
)
def test_files_go_out_and_come_in(name, media_type):
    people.task("job"), people.task("off", status=0)
    call = api()
    answer = call.get("/api/v1/tasks/export", {"format": name, "status": 1})
    assert (answer.status_code, answer["Content-Type"]) == (200, media_type)
    assert f'.{name}"' in answer["Content-Disposition"]
    Task.objects.update(timeout=20)

    def send(query=""):
        return call.post(f"/api/v1/tasks/import{query}", answer.content, content_type=media_type)

    told = send("?dry_run=1").json()["data"]
    assert (told["applied"], told["counts"]["changed"], len(told["rows"])) == (False, 1, 1)
    assert told["rows"][0]["changes"] == {"timeout": [20, 300]}
    assert send().json()["data"]["applied"] is True
    assert [task.timeout for task in Task.objects.order_by("name")] == [300, 20]


def test_a_file_with_a_refused_row_names_it():
    call = api()
    body = json.dumps([{"name": "a"}])
    answer = call.post("/api/v1/tasks/import", body, content_type="application/json")
    assert answer.status_code == 400
    assert {"tasks.1.executor_config", "tasks.1.groups"} <= set(answer.json()["errors"])
    told = call.post("/api/v1/tasks/import?dry_run=true", body, content_type="application/json")
    assert told.json()["data"]["counts"] == {"created": 0, "changed": 0, "unchanged": 0, "refused": 1}
    for path, data, kind, status in (
        ("import", "{", "application/json", 400),
        ("import", "", "application/json", 400),
        ("import", "x", "text/plain", 415),
        ("import?dry_run=maybe", "[]", "application/json", 400),
        ("import", " " * (5 * 1024 * 1024 + 1), "application/yaml", 413),
    ):
        assert call.post(f"/api/v1/tasks/{path}", data, content_type=kind).status_code == status, path
    assert call.get("/api/v1/tasks/export", {"format": "pdf"}).json()["errors"]["format"]
