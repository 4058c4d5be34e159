"""A month of history in the installation's database, written by a process of its own."""

import random
from datetime import datetime, timedelta

import django

django.setup()

from django.contrib.auth.models import Group as Role  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.db import transaction  # noqa: E402
from django.db.models import F  # noqa: E402
from django.utils import timezone  # noqa: E402

from executions_app.alerts.choices import AlertState, DeliveryState, Severity  # noqa: E402
from executions_app.choices import FailureReason  # noqa: E402
from executions_app.daily import roll_up  # noqa: E402
from executions_app.models import (  # noqa: E402
    Alert,
    AlertChannel,
    AlertDelivery,
    AlertRule,
    AlertSilence,
    Attempt,
    Execution,
    ExecutionLog,
    MissedFiring,
)
from groups_app.models import Client, Group  # noqa: E402
from quartzflow.audit import record  # noqa: E402
from quartzflow.execution_status import ExecutionStatus  # noqa: E402
from quartzflow.tokens import do_create_token  # noqa: E402
from tasks_app.models import Task  # noqa: E402

from .hosts import HOSTS  # noqa: E402
from .work import BAD_LOG, JOBS, LOG, RECONCILED, Job  # noqa: E402

DAYS = 30
SHANGHAI = timedelta(hours=8)
AWAY = timedelta(hours=9)  # since when what is offline has been
PEOPLE = (
    ("zhangwei", "张伟", "运维组"),
    ("lina", "李娜", "支付组"),
    ("chenjie", "陈杰", "数据组"),
    ("liuyang", "刘洋", "DBA"),
)
dice = random.Random(20261)


def main() -> None:
    with transaction.atomic():
        hosts()
        people()
        rows = sorted(
            (row for job in JOBS if job.minutes for row in executions(job)),
            key=lambda row: row.scheduled_time,
        )
        Execution.objects.bulk_create(rows, batch_size=500)
        Execution.objects.update(created_at=F("scheduled_time"))
        outputs(rows)
        alerts()
        audit()
    for day in sorted({row.scheduled_time.date() for row in rows}):
        roll_up(day)


def hosts() -> None:
    """What their agents would say of themselves."""
    for host in HOSTS:
        facts = {"hostname": f"{host.name}.example.com", "ip": host.ip, "labels": host.labels}
        system = {"os": "Debian GNU/Linux 12", "arch": "x86_64", "clock_offset_ms": dice.randint(-4, 6)}
        Client.objects.filter(client_id=host.name).update(**facts, **system)
    mine = {"hostname": "ops-sh-01.example.com", "ip": "10.12.0.5", "os": "Debian GNU/Linux 12"}
    Client.objects.filter(client_id="local").update(**mine)
    Group.objects.filter(name="default").update(description="没有归入其他分组的主机")
    begun = timezone.now() - timedelta(days=3, hours=2)
    Client.objects.exclude(client_id="store-wh-01").update(connected_at=begun)
    away = [host.name for host in HOSTS if not host.online]
    Client.objects.filter(client_id__in=away).update(last_heartbeat=timezone.now() - AWAY)


def people() -> None:
    User.objects.filter(username="admin").update(first_name="王芳", last_name="")
    roles = list(Role.objects.order_by("id"))
    for number, (name, first, _team) in enumerate(PEOPLE):
        user = User.objects.create_user(name, f"{name}@example.com", "not-a-password-9", first_name=first)
        user.is_staff = True
        user.last_login = timezone.now() - timedelta(hours=5 * number + 1)
        user.save(update_fields=["is_staff", "last_login"])
        user.groups.add(roles[number % len(roles)])
    admin = User.objects.get(username="admin")
    for name, scopes in (("发布流水线", ["read", "trigger"]), ("监控大屏", ["read"])):
        do_create_token(admin, {"name": name, "scopes": scopes})


def executions(job: Job) -> list[Execution]:
    """All of a task's history, oldest first."""
    task, now = Task.objects.get(name=job.name), timezone.now() - timedelta(minutes=2)
    start = (now + SHANGHAI - timedelta(days=DAYS)).replace(
        hour=0, minute=0, second=0, microsecond=0
    ) - SHANGHAI
    moment, number, found = start + timedelta(minutes=job.at), 0, []
    mine = [host for host in HOSTS if host.group in job.groups]
    groups = {group.name: group.pk for group in Group.objects.all()}
    while moment < now:
        targets = mine if job.each else [mine[number % len(mine)]]
        if job.minutes < 1440 and dice.random() < quiet(moment):
            targets = []
        for shard, host in enumerate(targets):
            if host.online or moment < now - AWAY:
                row = one(
                    job,
                    task,
                    host.name,
                    moment,
                    shard if job.body.get("routing") == "sharding" else None,
                    len(targets),
                )
                row.group_id = groups[host.group]
                found.append(row)
        moment += timedelta(minutes=job.minutes)
        number += 1
    return found


def quiet(moment: datetime) -> float:
    """The share of firings that a day is without: weekends have less to do, and no day is like another."""
    day = (moment + SHANGHAI).date()
    return (0.35 if day.weekday() > 4 else 0.0) + (day.toordinal() * 7919 % 17) / 100


def one(job: Job, task: Task, host: str, moment: datetime, shard: int | None, total: int) -> Execution:
    name = f"{moment:%Y%m%d_%H%M%S}_{task.pk}"
    started = moment + timedelta(milliseconds=dice.randint(3, 90))
    took = round(job.seconds * 1000 * dice.lognormvariate(0, 0.18))
    row = Execution(
        execution_id=f"exec_{name}_{host}" + (f"_s{shard}" if shard is not None else ""),
        run_id=f"run_{name}",
        task=task,
        task_name=job.name,
        client_id=host,
        status=ExecutionStatus.SUCCESS,
        execution_type=3 if job.after else 1,
        scheduled_time=moment,
        start_time=started,
        accepted_at=moment,
        timeout=task.timeout,
        max_retries=task.retry_count,
        task_version=1,
        exit_code=0,
        shard_index=shard,
        shard_total=total if shard is not None else None,
    )
    # Some days are worse than others, as days are.
    worse = 3 if moment.day % 9 == 4 else 1
    if dice.random() < job.failing * worse:
        fail(row, job, dice.random())
        took = job.body.get("timeout", 300) * 1000 if row.status == ExecutionStatus.TIMEOUT else took // 2
    row.duration = max(took, 80)
    row.end_time = started + timedelta(milliseconds=row.duration)
    return row


def fail(row: Execution, job: Job, kind: float) -> None:
    row.retry_count = row.max_retries
    if kind < 0.68:
        row.status, row.failure_reason, row.exit_code = ExecutionStatus.FAILURE, FailureReason.EXIT_CODE, 1
    elif kind < 0.86:
        row.status, row.failure_reason = ExecutionStatus.TIMEOUT, FailureReason.TIMEOUT
        row.exit_code, row.retry_count = None, 0
    elif kind < 0.94:
        row.status, row.failure_reason, row.exit_code = (
            ExecutionStatus.FAILURE,
            FailureReason.AGENT_LOST,
            None,
        )
    else:
        row.status, row.failure_reason, row.exit_code = (
            ExecutionStatus.CANCELLED,
            FailureReason.CANCELLED_BY_USER,
            None,
        )
        row.cancelled_by, row.retry_count = dice.choice(PEOPLE)[0], 0


def outputs(rows: list[Execution]) -> None:
    """Of the last days, as they are kept; and the attempts of what failed."""
    since = timezone.now() - timedelta(days=6)
    logs, attempts = [], []
    for row in rows:
        bad = row.status == ExecutionStatus.FAILURE
        if bad and row.retry_count and row.start_time and row.end_time:
            attempts += tried(row)
        if row.scheduled_time < since or row.task_name != RECONCILED:
            continue
        local = row.scheduled_time + SHANGHAI
        text = (BAD_LOG if bad else LOG).format(clock=f"{local:%H:%M:%S}", day=f"{local:%Y-%m-%d}")
        logs.append(ExecutionLog(execution=row, output=text, size=len(text.encode())))
    ExecutionLog.objects.bulk_create(logs, batch_size=500)
    Attempt.objects.bulk_create(attempts, batch_size=500)


def tried(row: Execution) -> list[Attempt]:
    """Every attempt of an execution whose last one failed, too: it ends when the last does."""
    assert row.start_time and row.duration
    found, begin = [], row.start_time
    for number in range(row.retry_count + 1):
        end = begin + timedelta(milliseconds=row.duration)
        found.append(
            Attempt(
                execution=row,
                number=number,
                status=row.status,
                start_time=begin,
                end_time=end,
                exit_code=row.exit_code,
                failure_reason=row.failure_reason,
            )
        )
        begin = end + timedelta(seconds=30)
    row.start_time, row.end_time = found[-1].start_time, found[-1].end_time
    Execution.objects.filter(pk=row.pk).update(start_time=row.start_time, end_time=row.end_time)
    return found


def alerts() -> None:
    now = timezone.now()
    rules = {rule.name: rule for rule in AlertRule.objects.all()}
    channel = AlertChannel.objects.get(kind="dingtalk")
    bad = Execution.objects.filter(status=ExecutionStatus.FAILURE).order_by("-scheduled_time")
    AlertSilence.objects.update(created_by="admin")
    # No success of these tasks is near that would end what is open.
    found = enumerate(
        (
            ("核心任务失败", "数据库全量备份", Severity.CRITICAL, AlertState.OPEN),
            ("连续失败三次", "门店价签刷新", Severity.WARNING, AlertState.ACKNOWLEDGED),
            ("核心任务失败", RECONCILED, Severity.CRITICAL, AlertState.RESOLVED),
            ("开始过晚", "数仓：订单宽表", Severity.INFO, AlertState.RESOLVED),
            ("连续失败三次", "库存同步到电商平台", Severity.WARNING, AlertState.RESOLVED),
        )
    )
    for number, (name, task, severity, state) in reversed(list(found)):
        row = bad.filter(task_name=task).first()
        at = now - timedelta(hours=number * number * 7, minutes=12 + 17 * number)
        alert = Alert.objects.create(
            rule=rules[name],
            key=f"task:{row.task_id if row else number}",
            kind=rules[name].kind,
            severity=severity,
            state=state,
            task_id=row.task_id if row else None,
            task_name=task,
            execution=row.pk if row else None,
            reason=row.failure_reason if row else "",
            count=1 + number % 3,
            first_at=at - timedelta(minutes=40 * (number % 3)),
            last_at=at,
            notified_at=at,
            acknowledged_by="zhangwei" if state != AlertState.OPEN else "",
            seconds=95 if rules[name].kind == "late_start" else 0,
            resolved_at=at + timedelta(minutes=35) if state == AlertState.RESOLVED else None,
        )
        AlertDelivery.objects.create(
            channel=channel,
            alert=alert,
            title=f"【Quartz-Flow】{task}：{alert.get_kind_display()}",
            body=f"{task}\n{alert.get_kind_display()}",
            severity=severity,
            state=DeliveryState.SENT,
            attempts=1,
            created_at=at,
            sent_at=at + timedelta(seconds=1),
        )
    away, since = rules["门店主机离线"], now - AWAY
    Alert.objects.create(
        rule=away,
        key="client:store-nj-01",
        kind=away.kind,
        severity=away.severity,
        client_id="store-nj-01",
        count=1,
        seconds=AWAY.total_seconds(),
        first_at=since,
        last_at=since,
        notified_at=since,
    )
    task = Task.objects.get(name="慢查询统计")
    day = now.replace(minute=0, second=0, microsecond=0) - timedelta(days=2)
    MissedFiring.objects.create(
        task_id=task.pk,
        task_name=task.name,
        first_time=day,
        last_time=day + timedelta(hours=1),
        count=3,
        resolved_at=day + timedelta(hours=2),
    )


def audit() -> None:
    """What others have done lately; what the administrator did has been recorded by itself."""
    users = {user.username: user for user in User.objects.all()}
    for actor, action, name, changes in (
        ("lina", "task.trigger", RECONCILED, {}),
        ("chenjie", "task.update", "数仓：订单宽表", {"timeout": [1800, 3600]}),
        ("zhangwei", "alert.acknowledge", "连续失败三次", {}),
        ("liuyang", "task.disable", "季度数据归档", {}),
    ):
        record(users[actor], action, Task.objects.filter(name=name).first(), changes, name=name)


if __name__ == "__main__":
    main()
