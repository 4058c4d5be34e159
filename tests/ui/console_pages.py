"""The console's pages: where each is, and an installation that has one object of every kind."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.services import Stack, wait_until

PAGES = {
    "overview": "/console/",
    "overview of a month": "/console/?days=30&by=week",
    "statistics": "/console/executions_app/report/statistics/",
    "built reports": "/console/executions_app/report/",
    "report": "/console/executions_app/report/{report}/change/",
    "scheduled reports": "/console/executions_app/reportschedule/",
    "scheduled report": "/console/executions_app/reportschedule/{report_schedule}/change/",
    "new scheduled report": "/console/executions_app/reportschedule/add/",
    "tasks": "/console/tasks_app/task/",
    "no task found": "/console/tasks_app/task/?q=nothing-is-called-this",
    "new task": "/console/tasks_app/task/add/",
    "one task": "/console/tasks_app/task/{task}/detail/",
    "rights on a task": "/console/tasks_app/task/{task}/rights/",
    "chosen tasks": "/console/tasks_app/task/?id__in={task}",
    "task": "/console/tasks_app/task/{task}/change/",
    "versions of a task": "/console/tasks_app/task/{task}/versions/",
    "importing tasks": "/console/tasks_app/task/import/",
    "executions": "/console/executions_app/execution/",
    "execution": "/console/executions_app/execution/{execution}/change/",
    "run": "/console/executions_app/execution/runs/{run}/",
    "log search": "/console/executions_app/executionlog/",
    "found logs": "/console/executions_app/executionlog/?q=ERROR&time=today",
    "nothing found in logs": "/console/executions_app/executionlog/?q=nobody+prints+this&status=bad",
    "nonsense in log search": "/console/executions_app/executionlog/?q=x&from=y",
    "replays": "/console/executions_app/replay/",
    "replay": "/console/executions_app/replay/{replay}/change/",
    "starting a replay": "/console/executions_app/replay/of/{task}/",
    "calendars": "/console/tasks_app/calendar/",
    "calendar": "/console/tasks_app/calendar/{calendar}/change/",
    "new calendar": "/console/tasks_app/calendar/add/",
    "scheduler": "/console/executions_app/missedfiring/scheduler/",
    "missed firings": "/console/executions_app/missedfiring/",
    "groups": "/console/groups_app/group/",
    "group": "/console/groups_app/group/{group}/change/",
    "rights on a group": "/console/groups_app/group/{group}/rights/",
    "new group": "/console/groups_app/group/add/",
    "hosts between groups": "/console/groups_app/group/hosts/",
    "hosts": "/console/groups_app/client/",
    "host": "/console/groups_app/client/{client}/change/",
    "adding a host": "/console/groups_app/enrollmenttoken/add/",
    "tokens": "/console/groups_app/enrollmenttoken/",
    "assignment rules": "/console/groups_app/assignmentrule/",
    "new assignment rule": "/console/groups_app/assignmentrule/add/",
    "assignment rule": "/console/groups_app/assignmentrule/{rule}/change/",
    "applying rules": "/console/groups_app/assignmentrule/apply/",
    "alerts": "/console/executions_app/alert/",
    "alert rules": "/console/executions_app/alertrule/",
    "alert rule": "/console/executions_app/alertrule/{alertrule}/change/",
    "new alert rule": "/console/executions_app/alertrule/add/?task={task}",
    "alert channels": "/console/executions_app/alertchannel/",
    "alert channel": "/console/executions_app/alertchannel/{channel}/change/",
    "new alert channel": "/console/executions_app/alertchannel/add/",
    "silences": "/console/executions_app/alertsilence/",
    "silence": "/console/executions_app/alertsilence/{silence}/change/",
    "new silence": "/console/executions_app/alertsilence/add/",
    "alert messages": "/console/executions_app/alertdelivery/",
    "users": "/console/auth/user/",
    "user": "/console/auth/user/{user}/change/",
    "new user": "/console/auth/user/add/",
    "user's password": "/console/auth/user/{user}/password/",
    "deleting a user": "/console/auth/user/{user}/delete/",
    "history of a user": "/console/auth/user/{user}/history/",
    "roles": "/console/auth/group/",
    "role": "/console/auth/group/{role}/change/",
    "deleting a role": "/console/auth/group/{role}/delete/",
    "audit log": "/console/quartzflow/auditentry/",
    "audit log of one object": "/console/quartzflow/auditentry/?object=tasks_app.task:{task}",
    "new role": "/console/auth/group/add/",
    "own settings": "/console/profile/",
    "system configuration": "/console/quartzflow/systemsetting/",
    "secrets": "/console/quartzflow/secret/",
    "new secret": "/console/quartzflow/secret/add/",
    "secret": "/console/quartzflow/secret/{secret}/change/",
    "own password": "/console/password_change/",
    "own password changed": "/console/password_change/done/",
}


def one_of_each(stack: Stack) -> dict[str, Any]:
    """Ids of one object of each kind; the execution has failed and printed something."""
    with stack.api() as api:
        group = api.get("/groups").json()["data"][0]["id"]
        task = {
            "name": "accessible", "executor_type": 1, "executor_config": {"command": "echo ERROR: no; exit 3"},
            "cron_expr": "0 0 1 1 *", "group_ids": [group],
        }  # fmt: skip
        created = api.post("/tasks", json=task).json()["data"]["id"]
        robot = {"name": "accessible", "kind": "wecom", "is_enabled": False, "config": {"token": "12345678"}}
        channel = api.post("/alert-channels", json=robot).json()["data"]["id"]
        told = {
            "name": "accessible", "kind": "failure", "scope": "tasks", "task_ids": [created], "channel_ids": [channel],
        }  # fmt: skip
        alert_rule = api.post("/alert-rules", json=told).json()["data"]["id"]
        window = {
            "name": "accessible", "weekdays": [0], "time_begins": "00:00", "time_ends": "23:00", "scope": "tasks",
            "task_ids": [created],
        }  # fmt: skip
        silence = api.post("/alert-silences", json=window).json()["data"]["id"]
        fired = api.post(f"/tasks/{created}/trigger", json={}).json()["data"]
        days = {"name": "accessible", "timezone": "UTC", "rules": {"working_days": "week"}}
        calendar = api.post("/calendars", json=days).json()["data"]["id"]
        rule = {"name": "accessible", "hostname": "nobody", "group_id": group, "is_enabled": False}
        ruled = api.post("/assignment-rules", json=rule).json()["data"]["id"]
        report = api.post("/reports", json={"format": "xlsx"}).json()["data"]["id"]
        mailed = {"name": "accessible", "recipients": ["ops@example.com"]}
        schedule = api.post("/report-schedules", json=mailed).json()["data"]["id"]
        api.post(f"/report-schedules/{schedule}/send")
        # Something runs after it, so that the drawings are there.
        after = {
            **task,
            "name": "accessible after",
            "dependencies": [{"task_id": created, "condition": "always"}],
        }
        api.post("/tasks", json=after)
        secret = api.post("/secrets", json={"name": "ACCESSIBLE", "value": "not-for-eyes"}).json()["data"][
            "id"
        ]
        token = api.post("/enrollment-tokens", json={"group_id": group}).json()["data"]["id"]
        hourly = {**task, "name": "accessible hourly", "cron_expr": "0 * * * *"}
        again = api.post("/tasks", json=hourly).json()["data"]["id"]
        now = datetime.now(UTC)
        past = {
            name: (now - timedelta(hours=hours)).isoformat() for name, hours in (("begin", 3), ("end", 1))
        }
        replay = api.post("/replays", json={"task_id": again, **past}).json()["data"]["id"]
        wait_until(lambda: api.get("/alerts").json()["data"]["total"], 30, "an alert")
        alert = api.get("/alerts").json()["data"]["items"][0]["id"]
    return {
        "task": created,
        "execution": fired["execution_id"],
        "run": fired["run_id"],
        "calendar": calendar,
        "alertrule": alert_rule,
        "channel": channel,
        "silence": silence,
        "rule": ruled,
        "report": report,
        "report_schedule": schedule,
        "group": group,
        "client": 1,
        "user": 1,
        "role": 1,
        "secret": secret,
        "token": token,
        "replay": replay,
        "alert": alert,
    }
