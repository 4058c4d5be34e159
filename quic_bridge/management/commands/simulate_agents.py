"""`manage.py simulate_agents`: many agents that speak the real protocol and run nothing, for load tests."""

import json
import re
import secrets
import signal
import time
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from groups_app.actions import do_create_enrollment_token
from groups_app.models import Group
from quartzflow.errors import InvalidInput
from quic_bridge.simulation.options import Options, Stats
from quic_bridge.simulation.processes import Simulation

REPORT = 5.0  # seconds between two lines of progress


def _endpoints(text: str) -> tuple[tuple[str, int], ...]:
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"\[?([^\]\[\s]+?)\]?:(\d{1,5})", part.strip())
        if match is None or not 0 < int(match[2]) < 65536:
            raise ArgumentTypeError(f"must be HOST:PORT, separated by commas; this is none: {part!r}")
        found.append((match[1], int(match[2])))
    return tuple(found)


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise ArgumentTypeError("must be from 0 to 1")
    return share


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ArgumentTypeError("must be 1 or more")
    return number


class Command(BaseCommand):
    help = (
        "Connect many simulated agents: real QUIC, registration, heartbeats, configuration and results; what they"
        " are told to run ends at once. Their hosts stay in the group, offline, when the simulation ends."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        env = settings.ENV
        parser.add_argument("--count", type=_positive, default=100, help="agents (default %(default)s)")
        parser.add_argument(
            "--server",
            type=_endpoints,
            default=((env.quic_host, env.quic_port),),
            help="HOST:PORT of bridges, separated by commas (default: this installation's)",
        )
        parser.add_argument("--group", default="default", help="group to join (default %(default)s)")
        parser.add_argument("--token", default="", help="enrollment token; without one, the command makes it")
        parser.add_argument(
            "--ca", type=Path, help="PEM file of the authority (default: the data directory's)"
        )
        parser.add_argument(
            "--prefix", default="", help="of the client ids (default: sim- and a random word)"
        )
        parser.add_argument(
            "--rate", type=float, default=200.0, help="connections a second (default %(default)s)"
        )
        parser.add_argument("--exec-ms", type=int, default=0, help="duration of an execution (default 0)")
        parser.add_argument("--fail-rate", type=_share, default=0.0, help="share of executions that fail")
        parser.add_argument(
            "--flap", type=_share, default=0.0, help="share of agents that lose their link each minute"
        )
        parser.add_argument("--processes", type=_positive, default=1, help="default %(default)s")
        parser.add_argument("--duration", type=float, help="seconds; default: until Ctrl-C")
        parser.add_argument("--json", action="store_true", help="print the totals as JSON, and nothing else")

    def handle(self, *, json: bool, duration: float | None, processes: int, **given: Any) -> None:
        options = Options(
            endpoints=given["server"],
            ca=_authority(given["ca"]),
            token=given["token"] or _new_token(given["group"], given["count"]),
            prefix=given["prefix"] or f"sim-{secrets.token_hex(3)}",
            count=given["count"],
            rate=given["rate"],
            exec_ms=given["exec_ms"],
            fail_rate=given["fail_rate"],
            flap=given["flap"],
        )
        signal.signal(signal.SIGTERM, _interrupt)
        simulation = Simulation(options, processes)
        started = time.monotonic()
        try:
            stats = self._watch(simulation, options, duration, quiet=json)
        except EOFError:
            raise CommandError("a process of the simulation has died; its words are above") from None
        finally:
            simulation.close()
        self._conclude(stats, time.monotonic() - started, json)

    def _watch(
        self, simulation: Simulation, options: Options, duration: float | None, *, quiet: bool
    ) -> Stats:
        started = time.monotonic()
        try:
            while duration is None or time.monotonic() - started < duration:
                left = REPORT if duration is None else duration - (time.monotonic() - started)
                time.sleep(max(min(REPORT, left), 0))
                stats = simulation.stats()
                if not quiet:
                    self.stdout.write(
                        f"{time.monotonic() - started:5.0f} s: {stats.online} of {options.count} online,"
                        f" {stats.executed} executed, {stats.acknowledged} acknowledged"
                    )
        except KeyboardInterrupt:
            pass
        return simulation.stats()

    def _conclude(self, stats: Stats, seconds: float, as_json: bool) -> None:
        summary = {"seconds": round(seconds, 1), **stats.summary()}
        if as_json:
            self.stdout.write(json.dumps(summary))
        else:
            for name, value in summary.items():
                self.stdout.write(f"{name.replace('_', ' ')}: {value}")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _authority(path: Path | None) -> bytes | None:
    """The given file, or this installation's; None where that has none: a public authority's certificate."""
    own = settings.QF_DATA_DIR / "pki" / "ca.pem"
    if path is None and not own.exists():
        return None
    try:
        return (path or own).read_bytes()
    except OSError as error:
        raise CommandError(f"cannot read the authority: {error}") from error


def _new_token(group: str, uses: int) -> str:
    row = Group.objects.filter(name=group).first()
    if row is None:
        names = ", ".join(Group.objects.values_list("name", flat=True)[:20])
        raise CommandError(f"there is no group {group!r}; there are: {names or 'none'}")
    try:
        return do_create_enrollment_token(None, row, max_uses=uses, note="simulate_agents")[1]
    except InvalidInput as error:
        raise CommandError(
            "; ".join(f"{k}: {' '.join(map(str, v))}" for k, v in error.errors.items())
        ) from None
