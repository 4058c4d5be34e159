"""All commands together."""

from typing import Annotated

import typer

from quartzflow_agent import __version__
from quartzflow_agent.cli import agent, task
from quartzflow_agent.i18n import _

app = typer.Typer(
    name="quicflow",
    help=_("The Quartz-Flow agent: runs scheduled tasks on this host, online and offline."),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(agent.app, name="agent")
app.add_typer(task.app, name="task")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"quicflow {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help=_("Show the version."))
    ] = False,
) -> None:
    pass
