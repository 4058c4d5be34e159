"""Which endpoint needs which role, and which right on a single object (test_endpoint_rights.py)."""

from dataclasses import dataclass
from typing import Any

VIEWERS = ("admin", "operator", "developer", "viewer")
DEVELOPERS = ("admin", "operator", "developer")
OPERATORS = ("admin", "operator")
ADMINS = ("admin",)


@dataclass(frozen=True)
class Row:
    """Who may.

    roles:    these get through; of the others, those of `seeing` get 403, the rest 404; all of them `denied` if given
    stranger: what an account without any right is answered: 200 with nothing in it, 403, or 404 for what it cannot see
    owner:    what an account is answered whose only rights are all those on the single task and group; 0: it gets
              through with them, and on other ones is answered like a stranger
    body:     sent; `{task}` and the like stand for ids
    """

    roles: tuple[str, ...]
    stranger: int
    owner: int = 0
    denied: int = 0
    seeing: tuple[str, ...] = VIEWERS
    body: Any = None


def lists(roles: tuple[str, ...] = VIEWERS, **more: Any) -> Row:
    """A list: everybody gets theirs."""
    return Row(roles, 200, **more)


TASK = {
    "name": "new", "executor_config": {"command": "x"}, "cron_expr": "@daily", "group_ids": ["{group}"],
}  # fmt: skip
FILED = {
    "name": "new",
    "executor_config": {"command": "x"},
    "cron_expr": "@daily",
    "groups": ["{group_name}"],
}
WINDOW = {"begin": "2026-01-01T00:00:00Z", "end": "2026-01-01T00:05:00Z"}
CHANNEL = {"name": "new", "kind": "wecom", "config": {"token": "12345678"}}
SILENCE = {"name": "new", "begins": "2026-01-01T00:00:00Z", "ends": "2026-01-02T00:00:00Z"}
MAILED = {"name": "new", "recipients": ["ops@example.com"]}
RULE = {"name": "new", "hostname": "db-*", "group_id": "{group}"}

TABLE: dict[str, Row] = {
    "GET /api/schema": lists(),
    "GET /metrics": Row(VIEWERS, 403, 403),
    "GET /api/v1/scheduler": Row(VIEWERS, 403, 403),
    # tasks
    "GET /api/v1/tasks": lists(),
    "POST /api/v1/tasks": Row(DEVELOPERS, 403, 403, body=TASK),
    "GET /api/v1/tasks/{task}": Row(VIEWERS, 404),
    "PUT /api/v1/tasks/{task}": Row(DEVELOPERS, 404, body={"timeout": 30}),
    "PATCH /api/v1/tasks/{task}": Row(DEVELOPERS, 404, body={"timeout": 30}),
    "DELETE /api/v1/tasks/{task}": Row(OPERATORS, 404),
    "POST /api/v1/tasks/{task}/copy": Row(DEVELOPERS, 404, 403),
    "POST /api/v1/tasks/{task}/enable": Row(DEVELOPERS, 404),
    "POST /api/v1/tasks/{task}/disable": Row(DEVELOPERS, 404),
    "POST /api/v1/tasks/{task}/trigger": Row(DEVELOPERS, 404),
    "GET /api/v1/tasks/{task}/push-state": Row(VIEWERS, 404),
    "GET /api/v1/tasks/{task}/versions": Row(VIEWERS, 404),
    "GET /api/v1/tasks/{task}/versions/{number}": Row(VIEWERS, 404),
    "POST /api/v1/tasks/{task}/versions/{number}/restore": Row(DEVELOPERS, 404),
    "GET /api/v1/tasks/{task}/versions/diff?from=1": Row(VIEWERS, 404),
    "POST /api/v1/tasks/batch": Row(OPERATORS, 400, body={"action": "delete", "ids": ["{task}"]}),
    "GET /api/v1/tasks/cron/parse?expr=@daily": lists(),
    "GET /api/v1/tasks/export": lists(),
    "POST /api/v1/tasks/import": Row(DEVELOPERS, 400, 400, 400, body=[FILED]),
    # calendars
    "GET /api/v1/calendars": lists(),
    "POST /api/v1/calendars": Row(OPERATORS, 403, 403, body={"name": "new"}),
    "GET /api/v1/calendars/{calendar}": Row(VIEWERS, 404, 404),
    "PUT /api/v1/calendars/{calendar}": Row(OPERATORS, 404, 404, body={"description": "x"}),
    "PATCH /api/v1/calendars/{calendar}": Row(OPERATORS, 404, 404, body={"description": "x"}),
    "DELETE /api/v1/calendars/{calendar}": Row(OPERATORS, 404, 404),
    "GET /api/v1/calendars/{calendar}/days": Row(VIEWERS, 404, 404),
    # executions
    "GET /api/v1/executions": lists(),
    "GET /api/v1/executions/stats": lists(),
    "GET /api/v1/logs/search?q=needle": lists(),
    "GET /api/v1/executions/{execution}": Row(VIEWERS, 404),
    "GET /api/v1/executions/{execution}/logs": Row(VIEWERS, 404),
    "GET /api/v1/executions/{execution}/logs/full": Row(VIEWERS, 404),
    "POST /api/v1/executions/{execution}/cancel": Row(DEVELOPERS, 404),
    "POST /api/v1/executions/{execution}/retry": Row(DEVELOPERS, 404),
    "POST /api/v1/executions/cancel": Row(DEVELOPERS, 404, body={"ids": ["{execution}"]}),
    "POST /api/v1/executions/retry": Row(DEVELOPERS, 404, body={"ids": ["{execution}"]}),
    "GET /api/v1/runs/{run}": Row(VIEWERS, 404),
    "POST /api/v1/runs/{run}/cancel": Row(DEVELOPERS, 404),
    "POST /api/v1/runs/{run}/retry": Row(DEVELOPERS, 404),
    "GET /api/v1/missed": lists(),
    "GET /api/v1/replays": lists(),
    "POST /api/v1/replays": Row(DEVELOPERS, 404, body={"task_id": "{task}", **WINDOW}),
    "GET /api/v1/replays/{replay}": Row(VIEWERS, 404),
    "POST /api/v1/replays/{replay}/cancel": Row(DEVELOPERS, 404),
    # groups and hosts
    "GET /api/v1/groups": lists(),
    "POST /api/v1/groups": Row(OPERATORS, 403, 403, body={"name": "new"}),
    "GET /api/v1/groups/{group}": Row(VIEWERS, 404),
    "PUT /api/v1/groups/{group}": Row(OPERATORS, 404, body={"description": "x"}),
    "PATCH /api/v1/groups/{group}": Row(OPERATORS, 404, body={"description": "x"}),
    "DELETE /api/v1/groups/{group}": Row(OPERATORS, 404),
    "GET /api/v1/groups/{group}/clients": Row(VIEWERS, 404),
    "GET /api/v1/clients": lists(),
    "GET /api/v1/clients/{client}": Row(VIEWERS, 404),
    "POST /api/v1/clients/{client}/approve": Row(OPERATORS, 404, body={"group_id": "{group}"}),
    "POST /api/v1/clients/{client}/reset": Row(OPERATORS, 404),
    "POST /api/v1/clients/{client}/revoke": Row(OPERATORS, 404),
    "POST /api/v1/clients/{client}/rotate": Row(OPERATORS, 404),
    "POST /api/v1/clients/move": Row(OPERATORS, 404, body={"ids": ["{client}"], "group_id": "{group}"}),
    "GET /api/v1/enrollment-tokens": lists(),
    "POST /api/v1/enrollment-tokens": Row(OPERATORS, 404, body={"group_id": "{group}"}),
    "POST /api/v1/enrollment-tokens/{token}/revoke": Row(OPERATORS, 404, seeing=()),
    "GET /api/v1/assignment-rules": Row(OPERATORS, 403, 403),
    "POST /api/v1/assignment-rules": Row(OPERATORS, 403, 403, body=RULE),
    "GET /api/v1/assignment-rules/{rule}": Row(OPERATORS, 403, 403),
    "PUT /api/v1/assignment-rules/{rule}": Row(OPERATORS, 403, 403, body={"hostname": "x-*"}),
    "PATCH /api/v1/assignment-rules/{rule}": Row(OPERATORS, 403, 403, body={"hostname": "x-*"}),
    "DELETE /api/v1/assignment-rules/{rule}": Row(OPERATORS, 403, 403),
    "GET /api/v1/assignment-rules/apply": Row(OPERATORS, 403, 403),
    "POST /api/v1/assignment-rules/apply": Row(OPERATORS, 403, 403),
    "POST /api/v1/assignment-rules/order": Row(OPERATORS, 403, 403, body={"ids": ["{rule}"]}),
    "POST /api/v1/assignment-rules/preview": Row(OPERATORS, 403, 403, body=RULE),
    # alerts
    "GET /api/v1/alerts": lists(),
    "GET /api/v1/alerts/{alert}": Row(VIEWERS, 404),
    "POST /api/v1/alerts/{alert}/acknowledge": Row(OPERATORS, 404, 403),
    "POST /api/v1/alerts/{alert}/resolve": Row(OPERATORS, 404, 403),
    "GET /api/v1/alert-rules": lists(),
    "POST /api/v1/alert-rules": Row(OPERATORS, 403, 403, body={"name": "new", "kind": "failure"}),
    "GET /api/v1/alert-rules/{alertrule}": Row(OPERATORS, 404, 404, seeing=()),
    "PUT /api/v1/alert-rules/{alertrule}": Row(OPERATORS, 404, 404, seeing=(), body={"severity": "info"}),
    "PATCH /api/v1/alert-rules/{alertrule}": Row(OPERATORS, 404, 404, seeing=(), body={"severity": "info"}),
    "DELETE /api/v1/alert-rules/{alertrule}": Row(OPERATORS, 404, 404, seeing=()),
    "GET /api/v1/alert-channels": lists(),
    "POST /api/v1/alert-channels": Row(OPERATORS, 403, 403, body=CHANNEL),
    "GET /api/v1/alert-channels/{alertchannel}": Row(OPERATORS, 404, 404, seeing=()),
    "GET /api/v1/alert-channels/{alertchannel}/deliveries": Row(OPERATORS, 404, 404, seeing=()),
    "POST /api/v1/alert-channels/{alertchannel}/test": Row(OPERATORS, 404, 404, seeing=()),
    "PUT /api/v1/alert-channels/{alertchannel}": Row(OPERATORS, 404, 404, seeing=(), body={"language": "en"}),
    "PATCH /api/v1/alert-channels/{alertchannel}": Row(
        OPERATORS, 404, 404, seeing=(), body={"language": "en"}
    ),
    "DELETE /api/v1/alert-channels/{alertchannel}": Row(OPERATORS, 404, 404, seeing=()),
    "GET /api/v1/alert-silences": lists(),
    "POST /api/v1/alert-silences": Row(OPERATORS, 403, 403, body=SILENCE),
    "GET /api/v1/alert-silences/{silence}": Row(OPERATORS, 404, 404, seeing=()),
    "PUT /api/v1/alert-silences/{silence}": Row(OPERATORS, 404, 404, seeing=(), body={"zone": "UTC"}),
    "PATCH /api/v1/alert-silences/{silence}": Row(OPERATORS, 404, 404, seeing=(), body={"zone": "UTC"}),
    "DELETE /api/v1/alert-silences/{silence}": Row(OPERATORS, 404, 404, seeing=()),
    # reports
    "GET /api/v1/reports": lists(),
    "POST /api/v1/reports": lists(body={"format": "pdf"}),
    "GET /api/v1/reports/{report}": Row((), 404, 404, seeing=()),
    "DELETE /api/v1/reports/{report}": Row((), 404, 404, seeing=()),
    "POST /api/v1/reports/{report}/cancel": Row((), 404, 404, seeing=()),
    "GET /api/v1/reports/{report}/download": Row((), 404, 404, seeing=()),
    "GET /api/v1/report-schedules": lists(),
    "POST /api/v1/report-schedules": Row(OPERATORS, 403, 403, body=MAILED),
    "GET /api/v1/report-schedules/{reportschedule}": Row(OPERATORS, 404, 404, seeing=()),
    "PUT /api/v1/report-schedules/{reportschedule}": Row(OPERATORS, 404, 404, seeing=(), body={"hour": 9}),
    "PATCH /api/v1/report-schedules/{reportschedule}": Row(OPERATORS, 404, 404, seeing=(), body={"hour": 9}),
    "DELETE /api/v1/report-schedules/{reportschedule}": Row(OPERATORS, 404, 404, seeing=()),
    "POST /api/v1/report-schedules/{reportschedule}/send": Row(OPERATORS, 404, 404, seeing=()),
    "GET /api/v1/report-schedules/{reportschedule}/mails": Row(OPERATORS, 404, 404, seeing=()),
    # the system
    "GET /api/v1/settings": Row(ADMINS, 403, 403),
    "PATCH /api/v1/settings": Row(ADMINS, 403, 403, body={}),
    "GET /api/v1/secrets": lists(),
    "POST /api/v1/secrets": Row(ADMINS, 403, 403, body={"name": "NEW", "value": "s3cret-value"}),
    "GET /api/v1/secrets/{secret}": Row(OPERATORS, 404, 404, seeing=()),
    "PUT /api/v1/secrets/{secret}": Row(ADMINS, 404, 404, seeing=OPERATORS, body={"description": "x"}),
    "PATCH /api/v1/secrets/{secret}": Row(ADMINS, 404, 404, seeing=OPERATORS, body={"description": "x"}),
    "DELETE /api/v1/secrets/{secret}": Row(ADMINS, 404, 404, seeing=OPERATORS),
    "GET /api/v1/audit": Row(ADMINS, 403, 403),
    "GET /api/v1/audit/{entry}": Row(ADMINS, 403, 403),
    "GET /api/v1/audit/export": Row(ADMINS, 403, 403),
    # one's own tokens
    "GET /api/v1/tokens": lists(),
    "POST /api/v1/tokens": lists(body={"name": "ci", "scopes": ["read"]}),
    "DELETE /api/v1/tokens/{apitoken}": Row((), 404, 404, seeing=()),
}
