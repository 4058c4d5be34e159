"""manage.py run: prepare this machine and run every process of Quartz-Flow on it."""

import os
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from quartzflow.env import Env, EnvError, unknown
from quartzflow.run import preflight, programs, readiness, supervise
from quartzflow.run.console import Console, wants_colour
from quartzflow.run.pki import PkiError
from quartzflow.run.setup import ADMIN, Prepared, make_data_dir, prepare

HIDDEN = (*programs.SECRETS, "QF_ADMIN_PASSWORD")


class Command(BaseCommand):
    help = "Prepare this machine and run every process of Quartz-Flow on it, until Ctrl-C."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        env: Env = settings.ENV
        given = dict(os.environ)
        for line in unknown(given):
            self.stderr.write(f"quartzflow: {line}")
        try:
            make_data_dir(env.data_dir)
            with preflight.data_dir_lock(env.data_dir):
                preflight.check_ports(env)
                preflight.check_redis(env)
                failure = self.supervise(env, given)
        except (EnvError, PkiError) as error:
            raise CommandError(str(error)) from None
        if failure:
            raise CommandError(failure)

    def supervise(self, env: Env, given: dict[str, str]) -> str:
        """Run everything; returns why it ended by itself, "" when it was told to end."""
        # From here on programs inherit this environment, and with the local agent every user's task does.
        for name in HIDDEN:
            os.environ.pop(name, None)
        if settings.HOST_TZ is None:
            os.environ.pop("TZ", None)  # Django's doing: a task's `date` is to show the host's time
        else:
            os.environ["TZ"] = settings.HOST_TZ
        started = programs.programs(env, given)
        colour = wants_colour(sys.stdout, os.environ)
        console = Console(sys.stdout, [program.name for program in started], colour)
        prepared = prepare(env, console.say)
        readiness.watch(
            env,
            ready=lambda: console.say(banner(env, prepared)),
            waiting=lambda missing: console.say(f"still waiting for: {', '.join(missing)}"),
        )
        return supervise.run(started, env.data_dir / "logs", console)


def banner(env: Env, prepared: Prepared) -> str:
    lines = [f"Quartz-Flow is ready: {readiness.console_url(env)}"]
    if prepared.new_password:
        lines.append(f"user {ADMIN}, password {prepared.new_password} (not shown again)")
    lines.append(
        f"agents connect to {env.quic_host}:{env.quic_port} (UDP); data in {env.data_dir}; Ctrl-C stops"
    )
    return "\n".join(lines)
