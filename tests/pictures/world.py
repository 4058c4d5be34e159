"""An installation that has been in use for a month: what of it is made through the API."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from tests.services import ROOT, Stack, wait_until

from .hosts import DATABASE, EDGE, GROUPS, HOSTS, WEB, Agents
from .work import EVERYWHERE, JOBS, LIVE, RECONCILED

Ids = dict[str, Any]


def post(api: httpx.Client, path: str, body: dict[str, Any]) -> Any:
    answer = api.post(path, json=body)
    assert answer.status_code in (200, 201, 202), f"{path} {body}: {answer.text}"
    return answer.json()["data"]


@contextmanager
def inhabited(stack: Stack) -> Iterator[Ids]:
    """Fill the installation; yields ids of what pages are about. Its hosts are connected until the block ends."""
    with stack.api() as api:
        api.timeout = httpx.Timeout(60)
        groups = {"default": api.get("/groups").json()["data"][0]["id"]}
        for name, (description, tags) in GROUPS.items():
            body = {"name": name, "description": description, "tags": tags.split(",")}
            groups[name] = post(api, "/groups", body)["id"]
        tokens = {}
        for name, group in groups.items():
            if name != "default":
                made = stack.manage("enroll_token", "create", name, "--uses", "10", "--note", f"{name}扩容")
                tokens[name] = made.split("--token ")[1].split()[0]
                assert group
        agents = Agents(stack, tokens)
        try:
            ids = _furnished(stack, api, groups)
            yield ids
            api.post(f"/executions/{ids['live']}/cancel")
        finally:
            agents.close()


def _furnished(stack: Stack, api: httpx.Client, groups: dict[str, int]) -> Ids:
    ids: Ids = {"group": groups[WEB]}
    ids["secret"] = _secrets(api)
    ids["calendar"] = _calendars(api)
    tasks = _tasks(api, groups, ids["calendar"])
    _rules(api, groups)
    _alerts(api, tasks, groups)
    _history(stack)
    enabled = [tasks[job.name] for job in JOBS if job.body.get("status") != 0]
    post(api, "/tasks/batch", {"action": "enable", "ids": enabled})
    ids |= {"task": tasks[RECONCILED], "chain": tasks["数仓：用户画像"]}
    _edit(api, ids["task"])
    _runs(api, ids, tasks, groups)
    _reports(api, ids)
    ids |= _rows(stack)
    return ids


def _secrets(api: httpx.Client) -> str:
    for name, value, description in (
        ("BACKUP_PASSPHRASE", "correct-horse-battery", "备份文件的加密口令"),
        ("STOCK_TOKEN", "not-a-real-token-0001", "库存平台接口令牌，每季度轮换"),
        ("WAREHOUSE_DSN", "postgres://etl@warehouse/prod", "数据仓库连接串"),
    ):
        post(api, "/secrets", {"name": name, "value": value, "description": description})
    return "STOCK_TOKEN"


def _calendars(api: httpx.Client) -> int:
    calendars = (
        ("交易日", "工作日，不含法定节假日", {"working_days": "china"}),
        ("变更封网期", "大促前后不做变更", {"dates": ["2026-11-01/2026-11-12", "2026-12-10/2026-12-13"]}),
        (
            "数据库维护窗口",
            "每周六晚到周日凌晨，以及每天的备份时段",
            {
                "weekly": [{"days": [6], "start": "22:00", "end": "06:00"}],
                "cron": [{"start": "0 2 * * *", "minutes": 90}],
            },
        ),
    )
    found = [
        post(
            api,
            "/calendars",
            {"name": name, "description": words, "timezone": "Asia/Shanghai", "rules": rules},
        )["id"]
        for name, words, rules in calendars
    ]
    return int(found[-1])


def _tasks(api: httpx.Client, groups: dict[str, int], calendar: int) -> dict[str, int]:
    """Off for now: nothing is to fire before their history is there."""
    tasks: dict[str, int] = {}
    for job in JOBS:
        body = {"timezone": "Asia/Shanghai", **job.body, "name": job.name, "status": 0}
        body["group_ids"] = [] if job.name == EVERYWHERE else [groups[name] for name in job.groups]
        if job.after:
            body["dependencies"] = [{"task_id": tasks[name]} for name in job.after]
        if job.name == "慢查询统计":
            body |= {"calendar_id": calendar, "calendar_mode": "not_on"}
        tasks[job.name] = post(api, "/tasks", body)["id"]
    return tasks


def _edit(api: httpx.Client, task: int) -> None:
    """So that there are versions to compare."""
    for change in ({"timeout": 900}, {"retry_interval": 60, "retry_max_interval": 600}):
        answer = api.put(f"/tasks/{task}", params={"force": "true"}, json=change)
        assert answer.status_code == 200, answer.text


def _rules(api: httpx.Client, groups: dict[str, int]) -> None:
    for name, body in (
        ("上海 Web", {"hostname": "web-sh-*", "group_id": groups[WEB]}),
        ("数据库网段", {"cidr": "10.12.3.0/24, 10.22.3.0/24", "group_id": groups[DATABASE]}),
        ("门店", {"hostname": "store-*", "cidr": "172.18.0.0/16", "group_id": groups[EDGE]}),
    ):
        post(api, "/assignment-rules", {"name": name, **body})


def _alerts(api: httpx.Client, tasks: dict[str, int], groups: dict[str, int]) -> None:
    # Their addresses lead nowhere: nothing is to be sent there while all this is made.
    channels = [
        post(api, "/alert-channels", {"name": name, "kind": kind, "config": config, "is_enabled": False})[
            "id"
        ]
        for name, kind, config in (
            ("运维值班群", "dingtalk", {"token": "0" * 32, "secret": "SEC" + "0" * 32}),
            ("数据组企业微信", "wecom", {"token": "12345678-0000"}),
            ("值班邮箱", "email", {"recipients": "oncall@example.com"}),
        )
    ]
    for body in (
        {
            "name": "核心任务失败",
            "kind": "failure",
            "scope": "tasks",
            "severity": "critical",
            "task_ids": [tasks[RECONCILED], tasks["数据库全量备份"]],
            "escalate_events": 3,
            "escalation_channel_ids": channels[2:],
        },
        {"name": "连续失败三次", "kind": "consecutive_failures", "threshold": 3, "severity": "warning"},
        {
            "name": "门店主机离线",
            "kind": "agent_offline",
            "threshold": 86_400,
            "scope": "groups",
            "group_ids": [groups[EDGE]],
        },
        {"name": "开始过晚", "kind": "late_start", "threshold": 60, "severity": "info"},
        {"name": "错过执行", "kind": "missed_firing", "severity": "warning"},
    ):
        post(api, "/alert-rules", {**body, "channel_ids": channels[:1]})
    begins = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(days=9)
    for body in (
        {
            "name": "大促封网",
            "reason": "封网期间只看大屏",
            "begins": begins.isoformat(),
            "ends": (begins + timedelta(days=3)).isoformat(),
        },
        {
            "name": "周末维护窗口",
            "reason": "数据库例行维护",
            "weekdays": [5, 6],
            "time_begins": "22:00",
            "time_ends": "06:00",
            "zone": "Asia/Shanghai",
            "scope": "groups",
            "group_ids": [groups[DATABASE]],
        },
    ):
        post(api, "/alert-silences", body)


def _history(stack: Stack) -> None:
    env = {**stack.env, "DJANGO_SETTINGS_MODULE": "quartzflow.settings"}
    command = [sys.executable, "-m", "tests.pictures.history"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-3000:]


def _runs(api: httpx.Client, ids: Ids, tasks: dict[str, int], groups: dict[str, int]) -> None:
    """What runs now, and what has just run."""
    body = {
        "name": "导出会员数据",
        "executor_type": 1,
        "executor_config": {"command": LIVE},
        "cron_expr": "0 6 * * 1",
        "timezone": "Asia/Shanghai",
        "group_ids": [groups["default"]],
        "timeout": 3600,
        "labels": {"team": "数据"},
        "description": "每周一导出给会员运营团队。",
    }
    task = post(api, "/tasks", body)["id"]
    # The newest configuration is everybody's: no host looks as if it were behind.
    answer = api.put(f"/tasks/{tasks[EVERYWHERE]}", json={"timeout": 60})
    assert answer.status_code == 200, answer.text
    newest = answer.json()["data"]["version"]
    wait_until(lambda: _all_hold(api, newest), 60, "the newest configuration everywhere")
    end = datetime.now(UTC).replace(second=0, microsecond=0)
    window = {"begin": end - timedelta(hours=27), "end": end - timedelta(hours=26)}
    replay = {key: f"{value:%Y-%m-%dT%H:%M:%SZ}" for key, value in window.items()}
    post(api, "/replays", {**replay, "task_id": tasks["官网证书与可用性检查"], "parallel": 2})
    for name in (EVERYWHERE, RECONCILED, "库存同步到电商平台"):
        fired = post(api, f"/tasks/{tasks[name]}/trigger", {})
        ids.setdefault("run", fired["run_id"])
    ids["live"] = post(api, f"/tasks/{task}/trigger", {})["execution_id"]


def _all_hold(api: httpx.Client, version: int) -> bool:
    rows = api.get("/clients", params={"page_size": 100}).json()["data"]["items"]
    online = [row for row in rows if row["status"] == 1]
    return len(online) == sum(host.online for host in HOSTS) + 1 and all(
        row["task_version"] >= version for row in online
    )


def _reports(api: httpx.Client, ids: Ids) -> None:
    for body in ({"format": "xlsx", "days": "30_days"}, {"format": "pdf", "zone": "Asia/Shanghai"}):
        ids["report"] = post(api, "/reports", body)["id"]
    schedules = (
        {"name": "每日运行简报", "recipients": ["ops@example.com"], "hour": 9},
        {
            "name": "周报（支付与数据）",
            "recipients": ["pay@example.com", "data@example.com"],
            "every": "weekly",
            "format": "pdf",
            "days": "last_week",
        },
    )
    for body in schedules:
        ids["report_schedule"] = post(api, "/report-schedules", {"zone": "Asia/Shanghai", **body})["id"]
    wait_until(
        lambda: api.get(f"/reports/{ids['report']}").json()["data"]["state"] in ("done", "failed"),
        90,
        "the report",
    )


ROWS = """
import json
from django.contrib.auth.models import Group as Role, User
from executions_app.models import AlertChannel, AlertRule, AlertSilence, Execution
from groups_app.models import AssignmentRule, Client
AlertChannel.objects.update(is_enabled=True)  # nothing will be sent any more
found = {
    "failed": Execution.objects.filter(status=4, task_name="订单对账", log__isnull=False).order_by("-id")[0].pk,
    "client": Client.objects.get(client_id="web-sh-01").pk,
    "rule": AssignmentRule.objects.order_by("-id")[0].pk,
    "alertrule": AlertRule.objects.get(name="核心任务失败").pk,
    "channel": AlertChannel.objects.get(kind="dingtalk").pk,
    "silence": AlertSilence.objects.get(name="周末维护窗口").pk,
    "user": User.objects.get(username="zhangwei").pk,
    "role": Role.objects.order_by("id")[1].pk,
}
print(json.dumps(found))
"""


def _rows(stack: Stack) -> Ids:
    found: Ids = json.loads(stack.manage("shell", "--verbosity=0", "-c", ROWS).splitlines()[-1])
    return found
