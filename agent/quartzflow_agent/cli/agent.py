"""quicflow agent: join, run, status, doctor, leave, install-service."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, Dict, List, Optional

import typer
from rich.cells import cell_len, set_cell_size

from quartzflow_agent import status as agent_status
from quartzflow_agent.agent import Agent
from quartzflow_agent.cli import doctor as checks
from quartzflow_agent.cli import leave as leaving
from quartzflow_agent.cli import service
from quartzflow_agent.cli.join import parse_labels, parse_servers, register
from quartzflow_agent.cli.output import Failure, example, print_json
from quartzflow_agent.config import (
    AgentConfig,
    default_client_id,
    load,
    normalise_sha256,
    save,
    write_secret,
)
from quartzflow_agent.executors.process import use_pidfd
from quartzflow_agent.i18n import _
from quartzflow_agent.lock import AlreadyRunning, running_pid
from quartzflow_agent.logs import configure
from quartzflow_agent.paths import Home
from quartzflow_agent.registration import keep_credential
from quartzflow_agent.store import executions, outbox, tasks
from quartzflow_agent.store.database import StoreError, open_readonly
from quartzflow_agent.store.records import RUNNING

app = typer.Typer(help=_("Join a server, run the agent, see how it is."), no_args_is_help=True)

NOT_CONNECTED, NOT_RUNNING = 1, 3  # exit codes of `agent status`

Json = Annotated[bool, typer.Option("--json", help=_("Print JSON."))]


@app.command(
    help=_("Join a server with an enrollment token, and keep the credential that it issues."),
    epilog=example("quicflow agent join --server quartz.example.com:8474 --token TOKEN --ca-file ca.pem"),
)
def join(
    server: Annotated[
        List[str], typer.Option(help=_("HOST:PORT of a server (UDP); several: separated by commas."))
    ],
    token: Annotated[
        str,
        typer.Option(
            envvar="QUICFLOW_TOKEN", help=_('Enrollment token made on the server; "-" reads it from stdin.')
        ),
    ],
    ca_file: Annotated[
        Optional[Path], typer.Option(help=_("The authority that signed the server's certificate (PEM)."))
    ] = None,
    ca_sha256: Annotated[
        str, typer.Option(help=_("Or the SHA-256 of the server's certificate, hexadecimal."))
    ] = "",
    client_id: Annotated[
        str, typer.Option(help=_("Name of this host on the server; the host name unless given."))
    ] = "",
    group: Annotated[str, typer.Option(help=_("Group to ask for; the server decides."))] = "",
    label: Annotated[Optional[List[str]], typer.Option(help=_("NAME=VALUE; may be repeated."))] = None,
    later: Annotated[
        bool, typer.Option("--later", help=_("Do not connect now: register when the agent first runs."))
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help=_("Join anew, although this host has a credential."))
    ] = False,
    as_json: Json = False,
) -> None:
    """Register for real, then write the credential and agent.toml."""
    home = Home.find()
    if token == "-":  # noqa: S105  not a password
        token = sys.stdin.readline().strip()
    config = AgentConfig(
        servers=parse_servers(server),
        client_id=client_id or default_client_id(),
        ca_file=ca_file.expanduser().absolute() if ca_file else None,
        ca_sha256=normalise_sha256(ca_sha256),
        group=group,
        labels=parse_labels(label or []),
    )
    config.check()
    if not token:
        raise Failure(_("The enrollment token is empty."))
    pid = running_pid(home.lock)
    if pid is not None:
        raise Failure(_("An agent is running here (pid {pid}): stop it first.").format(pid=pid))
    if home.credential.exists() and not force:
        raise Failure(
            _("This host has joined already ({path}): add --force to join anew.").format(path=home.credential)
        )
    home.create()
    if later:
        save(home, config)
        write_secret(home.enrollment_token, token)
        home.credential.unlink(missing_ok=True)
        answer: Dict[str, Any] = {"client_id": config.client_id, "config": str(home.config), "joined": False}
        message = _("{path} is written; the agent registers when it first runs: quicflow agent run")
    else:
        endpoint, response = asyncio.run(register(config, token))
        keep_credential(home, response)
        save(home, config)
        answer = {
            "client_id": response.client_id or config.client_id,
            "group": response.group,
            "server": str(endpoint),
            "config": str(home.config),
            "joined": True,
        }
        message = _('Joined {server} as "{client_id}" in the group "{group}". Now run: quicflow agent run')
    if as_json:
        print_json(answer)
    else:
        typer.echo(message.format(path=home.config, **{k: v for k, v in answer.items() if k != "path"}))


@app.command(
    help=_("Run the agent in the foreground; Ctrl-C or SIGTERM ends it, a second one at once."),
    epilog=example("QUICFLOW_HOME=/srv/quicflow quicflow agent run --log-level DEBUG"),
)
def run(
    log_level: Annotated[
        str, typer.Option(envvar="QUICFLOW_LOG_LEVEL", help=_("DEBUG, INFO, WARNING or ERROR."))
    ] = "INFO",
    log_file: Annotated[
        Optional[Path],
        typer.Option(
            envvar="QUICFLOW_LOG_FILE",
            help=_("Write the log to this file, which is rotated, instead of stderr."),
        ),
    ] = None,
) -> None:
    """Until a signal."""
    level = log_level.upper()
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise Failure(_("The log level is one of DEBUG, INFO, WARNING and ERROR."))
    try:
        configure(level, log_file)
    except OSError as error:
        raise Failure(_("Cannot write the log: {error}").format(error=error)) from error
    home = Home.find()
    config = load(home)
    use_pidfd()
    try:
        asyncio.run(_run(home, config))
    except AlreadyRunning as error:
        raise Failure(
            _("An agent is running here (pid {pid}): stop it, or set QUICFLOW_HOME.").format(pid=error.pid)
        ) from error
    except StoreError as error:
        raise Failure(_("The record of executions cannot be opened: {error}").format(error=error)) from error


async def _run(home: Home, config: AgentConfig) -> None:
    agent = Agent(home, config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, agent.stop)
    await agent.run()


@app.command(
    help=_(
        "Show whether the agent runs and is connected. Exit code 0: both, 1: not connected, 3: not running."
    ),
    epilog=example("quicflow agent status --json"),
)
def status(as_json: Json = False) -> None:
    """What the agent last said, and what the store holds."""
    home = Home.find()
    config = load(home)
    pid = running_pid(home.lock)
    try:
        said = agent_status.load(home) if pid is not None else None
    except (OSError, ValueError) as error:
        raise Failure(_("Cannot read {path}: {error}").format(path=home.status, error=error)) from error
    facts = _store_facts(home)
    if said is not None:
        # The agent says it now and then; the store knows at once.
        said = {**said, "unacknowledged": facts["unacknowledged"]}
    # A full disk cannot hold what the agent would say of it.
    disk = checks.space(home)
    found: Dict[str, Any] = {
        "running": pid is not None,
        "pid": pid,
        "home": str(home.root),
        "client_id": config.client_id,
        "servers": [str(server) for server in config.servers],
        "joined": home.credential.exists(),
        **facts,
        "disk": {"ok": disk.state == checks.OK, "text": disk.text, "todo": disk.todo},
        "agent": said,
    }
    connected = bool(said and said["connected"])
    if as_json:
        print_json(found)
    else:
        typer.echo(_status_text(found, said))
    raise typer.Exit(NOT_RUNNING if pid is None else 0 if connected else NOT_CONNECTED)


def _store_facts(home: Home) -> Dict[str, Any]:
    db = open_readonly(home.store)
    if db is None:
        return {"tasks": 0, "executing": 0, "unacknowledged": 0, "config_version": 0}
    try:
        return {
            "tasks": len(tasks.all_tasks(db)),
            "executing": sum(entry.status == RUNNING for entry in executions.open_executions(db)),
            "unacknowledged": outbox.count_pending(db),
            "config_version": tasks.version(db),
        }
    finally:
        db.close()


def _status_text(found: Dict[str, Any], said: Optional[Dict[str, Any]]) -> str:
    lines = [
        (_("Client"), found["client_id"]),
        (_("Home"), found["home"]),
        (_("Servers"), ", ".join(found["servers"])),
        (
            _("Agent"),
            _("running, pid {pid}").format(pid=found["pid"]) if found["running"] else _("not running"),
        ),
    ]
    if not found["joined"]:
        lines.append((_("Credential"), _("none yet")))
    if said:
        lines.append(
            (_("Connection"), said["server"] if said["connected"] else said["problem"] or _("none yet"))
        )
        lines.append((_("Group"), said["group"] or "-"))
        lines.append((_("Fired by"), _("this agent") if said["local_firing"] else _("the server")))
        lines.append((_("Clock offset"), f"{said['clock_offset_ms']} ms"))
    lines += [
        (_("Tasks"), str(found["tasks"])),
        (_("Running executions"), str(found["executing"])),
        (_("Not yet on the server"), str(found["unacknowledged"])),
    ]
    if not found["disk"]["ok"]:
        lines.append((_("Disk space"), f"{found['disk']['text']}\n  → {found['disk']['todo']}"))
    return "\n".join(f"{name}: {value}" for name, value in lines)


@app.command(
    help=_(
        "Look at all that the agent needs, and say what to do about what is wrong. Exit code 1: something is."
    ),
    epilog=example("sudo -u quicflow quicflow agent doctor"),
)
def doctor(as_json: Json = False) -> None:
    """One line each, and what to do below it."""
    found = asyncio.run(checks.examine(Home.find()))
    wrong = sum(finding.state == checks.WRONG for finding in found)
    if as_json:
        print_json({"ok": not wrong, "findings": [vars(finding) for finding in found]})
    else:
        labels = {checks.OK: _("ok"), checks.WRONG: _("WRONG"), checks.UNKNOWN: "-"}
        width = max(map(cell_len, labels.values()))
        for finding in found:
            typer.echo(f"{set_cell_size(labels[finding.state], width)}  {finding.name}: {finding.text}")
            if finding.todo:
                typer.echo(f"{' ' * width}  → {finding.todo}")
    raise typer.Exit(1 if wrong else 0)


@app.command(
    help=_("Leave the server: delete this host's credential and configuration, and keep its records."),
    epilog=example("quicflow agent leave --purge"),
)
def leave(
    yes: Annotated[bool, typer.Option("--yes", help=_("Do not ask."))] = False,
    purge: Annotated[bool, typer.Option("--purge", help=_("Delete the records and logs, too."))] = False,
    as_json: Json = False,
) -> None:
    """Asks first."""
    home = Home.find()
    leaving.check_stopped(home)
    unsent = leaving.unsent(home)
    if not yes:
        if unsent:
            typer.echo(_("The server does not know {count} results yet.").format(count=unsent), err=True)
        if not typer.confirm(
            _("Leave the server, and delete all that belongs to it in {path}?").format(path=home.root)
        ):
            raise Failure(_("Nothing was deleted."))
    gone = leaving.remove(home, purge=purge)
    if as_json:
        print_json({"deleted": [str(path) for path in gone], "unsent": unsent})
    elif gone:
        typer.echo(_("Deleted: {paths}").format(paths=", ".join(path.name for path in gone)))
        typer.echo(_("Have an operator remove this host on the server, too."))
    else:
        typer.echo(_("There was nothing to delete in {path}.").format(path=home.root))


@app.command(
    "install-service",
    help=_("Write a systemd unit that keeps the agent of this host running. Join first."),
    epilog=example("sudo quicflow agent install-service --user quicflow"),
)
def install_service(
    user: Annotated[
        str, typer.Option(help=_("Account that the agent runs as; the one that runs this, unless given."))
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help=_("Print the unit, write nothing."))] = False,
) -> None:
    """The unit on stdout, or in its place."""
    text = service.unit_for(user)
    if dry_run:
        typer.echo(text, nl=False)
        return
    path = service.install(text)
    typer.echo(_("{path} is written. Now run:").format(path=path))
    typer.echo(f"  systemctl daemon-reload && systemctl enable --now {path.name}")
