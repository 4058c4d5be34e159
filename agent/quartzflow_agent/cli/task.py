"""quicflow task: what ran, what will (PRD FR-5.5). Reads the store, whether the agent runs or not."""

import sqlite3
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Any, Dict, Iterator, List, Optional

import typer

from quartzflow_agent.cli import trial
from quartzflow_agent.cli.output import Failure, example, percent, print_json, print_table, seconds
from quartzflow_agent.cron import ScheduleError
from quartzflow_agent.i18n import _
from quartzflow_agent.paths import Home
from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.schedule import CRON, FIXED_DELAY, FIXED_RATE, ONCE, Schedule, zone
from quartzflow_agent.store import executions, statistics, tasks
from quartzflow_agent.store.database import open_readonly
from quartzflow_agent.store.records import STATUS_NAMES, SUCCESS, DayStats, utc
from quartzflow_agent.views import execution_view, stats_view

app = typer.Typer(help=_("See what ran on this host, and what will."), no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help=_("Print JSON."))]
TaskId = Annotated[str, typer.Option(help=_("A task's id, as `task list` shows it."))]
DAYS = 7  # of one task's statistics
STATUS_LABELS = {
    "pending": _("Pending"),
    "running": _("Running"),
    "success": _("Success"),
    "failure": _("Failed"),
    "timeout": _("Timed out"),
    "cancelled": _("Cancelled"),
}


@contextmanager
def _store() -> Iterator[sqlite3.Connection]:
    """The store, for reading."""
    home = Home.find()
    db = open_readonly(home.store)
    if db is None:
        raise Failure(
            _("There are no records here ({path}): has the agent run, and is QUICFLOW_HOME right?").format(
                path=home.store
            )
        )
    try:
        yield db
    finally:
        db.close()


def _today() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%d")


def _day(text: str) -> str:
    try:
        return datetime.strptime(text, "%Y-%m-%d").strftime("%Y-%m-%d")
    except ValueError:
        raise Failure(_('"{value}" is no date: write YYYY-MM-DD.').format(value=text)) from None


@app.command(
    help=_("Statistics of a day (UTC) by task, or of one task by day."),
    epilog=example("quicflow task stats --task-id 12 --days 7"),
)
def stats(
    today: Annotated[bool, typer.Option("--today", help=_("Of today; so it is without options."))] = False,
    date: Annotated[str, typer.Option(help=_("Of this day, YYYY-MM-DD."))] = "",
    task_id: TaskId = "",
    days: Annotated[
        Optional[int], typer.Option(min=1, max=3650, help=_("With --task-id: so many days; 7 unless given."))
    ] = None,
    as_json: Json = False,
) -> None:
    """One table."""
    if today and date:
        raise Failure(_("Give either --today or --date."))
    if days and (today or not task_id):
        raise Failure(_("--days goes with --task-id, and not with --today."))
    with _store() as db:
        if task_id:
            last = datetime.strptime(_day(date or _today()), "%Y-%m-%d")
            first = (last - timedelta(days=(1 if today else days or DAYS) - 1)).strftime("%Y-%m-%d")
            found = statistics.of_task(db, task_id, first, last.strftime("%Y-%m-%d"))
            _show_task(task_id, found, as_json)
        else:
            day = _day(date or _today())
            _show_day(day, statistics.of_day(db, day), as_json)


def _show_day(day: str, found: List[DayStats], as_json: bool) -> None:
    if as_json:
        print_json({"date": day, "tasks": {item.task_id: stats_view(item) for item in found}})
        return
    headings = [_("Task"), *_stats_headings()]
    rows = [[item.task_name or item.task_id, *_stats_cells(item)] for item in found]
    print_table(_("Task execution statistics - {date}").format(date=day), headings, rows)
    if not found:
        typer.echo(_("Nothing has run on this day."))


def _show_task(task_id: str, found: List[DayStats], as_json: bool) -> None:
    if as_json:
        print_json({"task_id": task_id, "days": [{"date": item.day, **stats_view(item)} for item in found]})
        return
    name = found[0].task_name if found else task_id
    headings = [_("Date"), *_stats_headings()]
    rows = [[item.day, *_stats_cells(item)] for item in found]
    print_table(_("Task execution statistics - {date}").format(date=name), headings, rows)
    if not found:
        typer.echo(_("It has not run in this time."))


def _stats_headings() -> List[str]:
    return [_("Total"), _("Success"), _("Failed"), _("Success rate"), _("Average duration")]


def _stats_cells(item: DayStats) -> List[str]:
    # The failures of the table are all that did not succeed, as the rate has it.
    return [
        str(item.total),
        str(item.success),
        str(item.total - item.success),
        percent(item.success, item.total),
        seconds(item.avg_ms),
    ]


@app.command(
    help=_("The executions of a day; days and times are UTC."),
    epilog=example("quicflow task history --date 2025-01-09 --task-id 12"),
)
def history(
    date: Annotated[str, typer.Option(help=_("YYYY-MM-DD; today unless given."))] = "",
    task_id: TaskId = "",
    limit: Annotated[int, typer.Option(min=1, help=_("The latest so many."))] = 200,
    as_json: Json = False,
) -> None:
    """One table, latest last."""
    day = _day(date or _today())
    with _store() as db:
        found = executions.of_day(db, day, task_id, limit)
    if as_json:
        print_json({"date": day, "executions": [execution_view(item) for item in found]})
        return
    rows = [
        [
            item.task_name or item.task_id,
            STATUS_LABELS[item.status_name],
            _clock(item.started_at),
            "-" if item.duration_ms is None else seconds(item.duration_ms),
            "-" if item.exit_code is None else str(item.exit_code),
            item.failure_reason or "-",
            _("yes") if item.synced else _("no"),
            item.execution_id,
        ]
        for item in found
    ]
    headings = [
        _("Task"),
        _("Status"),
        _("Start"),
        _("Duration"),
        _("Exit code"),
        _("Reason"),
        _("Synced"),
        _("Execution"),
    ]
    print_table(_("Executions - {date}").format(date=f"{day} (UTC)"), headings, rows)


def _clock(milliseconds: Optional[int]) -> str:
    if milliseconds is None:
        return "-"
    return utc(milliseconds).strftime("%H:%M:%S")  # as the days of records and files are


@app.command(
    help=_("Print what an execution has written."),
    epilog=example("quicflow task logs --task-id 12 --last"),
)
def logs(
    task_id: TaskId = "",
    last: Annotated[bool, typer.Option("--last", help=_("Of the task's last execution."))] = False,
    execution_id: Annotated[str, typer.Option(help=_("Or of this execution."))] = "",
    as_json: Json = False,
) -> None:
    """The log on stdout, as it is."""
    if bool(task_id) == bool(execution_id) or (execution_id and last):
        raise Failure(_("Give either --task-id and --last, or --execution-id."))
    with _store() as db:
        found = executions.get(db, execution_id) if execution_id else executions.last_with_log(db, task_id)
    if found is None:
        raise Failure(_("This host has no such execution."))
    if not found.log:
        raise Failure(_("It never started, so it has written nothing."))
    path = Home.find().log_file(found.log)
    text = _read(path)
    if as_json:
        print_json({**execution_view(found), "log": str(path), "output": text})
    else:
        typer.echo(text, nl=not text.endswith("\n"))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise Failure(_("Cannot read {path}: {error}").format(path=path, error=error.strerror)) from error


@app.command(
    "list",
    help=_("The tasks that the server has given this host."),
    epilog=example("quicflow task list --json"),
)
def list_tasks(as_json: Json = False) -> None:
    """One table."""
    with _store() as db:
        found = [item.config for item in tasks.all_tasks(db)]
    if as_json:
        print_json({"tasks": [_task_view(config) for config in found]})
        return
    rows = [
        [
            config.id,
            config.name,
            _("yes") if config.enabled else _("no"),
            schedule_text(config),
            (_next_times(config, 1) or ["-"])[0],
            _("yes") if config.local_firing else _("no"),
        ]
        for config in found
    ]
    headings = [_("Id"), _("Task"), _("Enabled"), _("Schedule"), _("Next"), _("Runs offline")]
    print_table(_("Tasks"), headings, rows)


def _task_view(config: task_pb2.TaskConfig) -> Dict[str, Any]:
    return {
        "id": config.id,
        "name": config.name,
        "enabled": config.enabled,
        "executor": task_pb2.ExecutorType.Name(config.executor_type).lower(),
        "schedule": schedule_text(config),
        "timezone": config.timezone,
        "timeout": config.timeout,
        "local_firing": config.local_firing,
        "version": config.version,
        "next": _next_times(config, 1),
    }


def schedule_text(config: task_pb2.TaskConfig) -> str:
    """A task's schedule in a few words."""
    kind = config.schedule_type or CRON
    if kind == CRON:
        return f"{config.cron_expr} ({config.timezone or 'UTC'})"
    if kind == FIXED_RATE:
        return _("every {seconds} s").format(seconds=config.interval_seconds)
    if kind == FIXED_DELAY:
        return _("{seconds} s after the end").format(seconds=config.interval_seconds)
    if kind == ONCE:
        return _("once")
    return _("by hand")


def _next_times(config: task_pb2.TaskConfig, count: int) -> List[str]:
    """In the task's time zone; none for a disabled task."""
    if not config.enabled:
        return []
    try:
        found = Schedule.from_task_config(config).upcoming(datetime.now(timezone.utc), count)
        return [moment.astimezone(zone(config.timezone or "UTC")).isoformat(sep=" ") for moment in found]
    except ScheduleError as error:
        return [str(error)]


@app.command(
    "next",
    help=_("When tasks fire next, each in its own time zone."),
    epilog=example("quicflow task next --task-id 12 --count 10"),
)
def next_firings(
    task_id: TaskId = "",
    count: Annotated[int, typer.Option(min=1, max=100, help=_("So many times of each task."))] = 5,
    as_json: Json = False,
) -> None:
    """One table."""
    with _store() as db:
        found = [item.config for item in tasks.all_tasks(db) if task_id in ("", item.config.id)]
    if task_id and not found:
        raise Failure(_("This host has no task {id}: see `quicflow task list`.").format(id=task_id))
    times = {config.id: _next_times(config, count) for config in found}
    if as_json:
        print_json(
            {"tasks": [{"id": c.id, "name": c.name, "next": times[c.id]} for c in found]},
        )
        return
    rows = [[config.id, config.name, moment] for config in found for moment in times[config.id]]
    print_table(_("Next firings"), [_("Id"), _("Task"), _("Time")], rows)


@app.command(
    "run",
    help=_(
        "Run a task here and now, as a test: its output comes to the terminal, the server is told nothing."
    ),
    epilog=example("quicflow task run 12 --param day=monday"),
)
def run_task(
    task_id: Annotated[str, typer.Argument(help=_("A task's id, as `task list` shows it."))],
    param: Annotated[Optional[List[str]], typer.Option(help=_("NAME=VALUE; may be repeated."))] = None,
) -> None:
    """Exit code 0: it was a success; 1: it was not."""
    params: Dict[str, str] = {}
    for text in param or []:
        name, sign, value = text.partition("=")
        if not sign:
            raise Failure(_('"{value}" is no parameter: write NAME=VALUE.').format(value=text))
        params[name] = value
    with _store() as db:
        found = [item.config for item in tasks.all_tasks(db) if item.config.id == task_id]
    if not found:
        raise Failure(_("This host has no task {id}: see `quicflow task list`.").format(id=task_id))
    try:
        ending = trial.run(Home.find(), trial.instruction_for(found[0], params))
    except OSError as error:
        raise Failure(_("The task cannot be run: {error}").format(error=error)) from error
    code = "-" if ending.exit_code is None else ending.exit_code
    words = [
        STATUS_LABELS[STATUS_NAMES[ending.status]],
        _("exit code {code}").format(code=code),
        ending.failure_reason,
    ]
    typer.echo(", ".join(word for word in words if word), err=True)
    if ending.status != SUCCESS:
        if ending.error:
            typer.echo(ending.error, err=True)
        raise typer.Exit(1)
