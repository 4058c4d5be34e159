"""manage.py tasks: tasks, from the command line."""

import time
from typing import Any

from django.core.management.base import CommandError
from django.db.models import Q

from executions_app import control
from executions_app.endings import outcomes
from executions_app.models import Execution
from quartzflow.execution_status import LIVE, ExecutionStatus
from quartzflow.management.command import VerbCommand
from quartzflow.management.output import write_fields, write_rows
from quartzflow.permissions import User
from tasks_app.choices import TaskStatus
from tasks_app.models import Task
from tasks_app.selectors import next_fire_time, tasks_for, with_parents

COLUMNS = ("id", "name", "enabled", "schedule", "groups", "next_time")
RUN_COLUMNS = ("id", "execution_id", "client_id", "status", "failure_reason", "duration_ms")
POLL = 0.5  # seconds between two looks at a run that is waited for
NOT_WELL = 3  # exit status: the run that was waited for did not end well
STILL_RUNNING = 4  # exit status: it has not ended in time


class Command(VerbCommand):
    help = (
        "Show tasks, switch them on and off, run them, cancel what of them waits or runs. Exit status of"
        f" `trigger --wait`: 0 all went well, {NOT_WELL} not all did, {STILL_RUNNING} it was not over in time."
    )
    examples = """
  manage.py tasks list --group web --enabled
  manage.py tasks show backup --json
  manage.py tasks disable backup report
  manage.py tasks trigger backup --param target=s3 --host db-1 --wait
  manage.py tasks cancel backup
"""

    def add_verbs(self) -> None:
        listing = self.verb("list", self._list, "show tasks")
        listing.add_argument("--group", help="only those bound to this group")
        listing.add_argument("--keyword", help="only those with this in name or description")
        state = listing.add_mutually_exclusive_group()
        state.add_argument("--enabled", action="store_true")
        state.add_argument("--disabled", action="store_true")
        show = self.verb("show", self._show, "show one task in full")
        enable = self.verb("enable", self._enable, "put tasks on schedule")
        disable = self.verb("disable", self._disable, "take tasks off schedule; what runs goes on")
        trigger = self.verb("trigger", self._trigger, "run a task now")
        cancel = self.verb("cancel", self._cancel, "end what of tasks waits or runs")
        for verb in (show, trigger):
            verb.add_argument("task", metavar="TASK", help="name or id")
        for verb in (enable, disable, cancel):
            verb.add_argument("tasks", metavar="TASK", nargs="+", help="name or id")
        trigger.add_argument(
            "--param", action="append", default=[], metavar="NAME=VALUE", help="may be repeated"
        )
        trigger.add_argument("--host", action="append", metavar="ID", help="only there; may be repeated")
        trigger.add_argument("--wait", action="store_true", help="until it is over")
        trigger.add_argument("--timeout", type=float, default=3600, help="seconds to wait (%(default)s)")

    def _write(self, tasks: Any, json: bool) -> None:
        write_rows(self.stdout, [shown(task) for task in tasks], COLUMNS, as_json=json)

    def _list(
        self, user: User, group: str | None, keyword: str | None, enabled: bool, disabled: bool, **rest: Any
    ) -> None:
        tasks = tasks_for(user).order_by("name")
        if group is not None:
            tasks = tasks.filter(groups__name=group)
        if keyword:
            tasks = tasks.filter(Q(name__icontains=keyword) | Q(description__icontains=keyword))
        if enabled or disabled:
            tasks = tasks.filter(status=TaskStatus.ENABLED if enabled else TaskStatus.DISABLED)
        self._write(tasks, rest["json"])

    def _show(self, user: User, task: str, **rest: Any) -> None:
        from tasks_app.api.serializers import TaskSerializer

        write_fields(self.stdout, TaskSerializer(find(user, task)).data, as_json=rest["json"])

    def _enable(self, user: User, tasks: list[str], **rest: Any) -> None:
        found = [find(user, name) for name in tasks]
        control.do_enable_tasks(user, found)
        self._write(found, rest["json"])

    def _disable(self, user: User, tasks: list[str], **rest: Any) -> None:
        found = [find(user, name) for name in tasks]
        control.do_disable_tasks(user, found)
        self._write(found, rest["json"])

    def _trigger(
        self,
        user: User,
        task: str,
        param: list[str],
        host: list[str] | None,
        wait: bool,
        timeout: float,
        **rest: Any,
    ) -> None:
        params: dict[str, str] = {}
        for text in param:
            name, sign, value = text.partition("=")
            if not sign:
                raise CommandError(f"--param {text!r}: write NAME=VALUE")
            params[name] = value
        made = control.do_trigger_task(user, find(user, task), params, host)
        run_id = made[0].run_id
        over = self.wait_for(run_id, timeout) if wait else True
        rows = Execution.objects.filter(run_id=run_id).order_by("id")
        write_rows(self.stdout, [shown_execution(e) for e in rows], RUN_COLUMNS, as_json=rest["json"])
        if not over:
            raise CommandError(f"not over within {timeout:g} s; it goes on", returncode=STILL_RUNNING)
        if wait and outcomes([run_id])[run_id] != ExecutionStatus.SUCCESS:
            raise CommandError("not every execution went well", returncode=NOT_WELL)

    def wait_for(self, run_id: str, timeout: float) -> bool:
        """Whether the run is over within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while outcomes([run_id])[run_id] in LIVE:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL)
        return True

    def _cancel(self, user: User, tasks: list[str], **rest: Any) -> None:
        live = Execution.objects.filter(task__in=[find(user, name) for name in tasks], status__in=LIVE)
        rows = list(live)
        if rows:
            control.do_cancel_executions(user, rows)
        ended = Execution.objects.filter(pk__in=[row.pk for row in rows]).order_by("id")
        write_rows(self.stdout, [shown_execution(e) for e in ended], RUN_COLUMNS, as_json=rest["json"])


def find(user: User, name: str) -> Task:
    """The task of this name or id. Raises CommandError."""
    tasks = with_parents(user, tasks_for(user))
    task = tasks.filter(name=name).first()
    if task is None and name.isdecimal():
        task = tasks.filter(pk=int(name[:18])).first()
    if task is None:
        raise CommandError(f"there is no task {name!r}; `tasks list` shows them")
    return task


def shown(task: Task) -> dict[str, Any]:
    return {
        "id": task.pk,
        "name": task.name,
        "enabled": task.is_enabled,
        "schedule": str(task.schedule_text()),
        "groups": "*" if task.is_global else ",".join(sorted(group.name for group in task.groups.all())),
        "next_time": next_fire_time(task),
    }


def shown_execution(execution: Execution) -> dict[str, Any]:
    return {
        "id": execution.pk,
        "execution_id": execution.execution_id,
        "client_id": execution.client_id,
        "status": ExecutionStatus(execution.status).name.lower(),
        "failure_reason": execution.failure_reason,
        "duration_ms": execution.duration,
    }
