"""`manage.py quic_bridge`: the process that agents connect to."""

import argparse
import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from channels.layers import get_channel_layer
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from quic_bridge import metrics, server, steering, tuning, udp
from quic_bridge.bridge import Bridge
from quic_bridge.domain import Domain, Unavailable
from quic_bridge.limits import changed
from quic_bridge.workers import Workers, WorkersFailedError, open_sockets

WILDCARDS = ("", "0.0.0.0", "::")  # noqa: S104  compared with, not bound to


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError("must be a port number")
    return port


def _workers(text: str) -> int:
    workers = int(text)
    if not 1 <= workers <= steering.MAX_WORKERS:
        raise argparse.ArgumentTypeError(f"must be from 1 to {steering.MAX_WORKERS}")
    return workers


class Command(BaseCommand):
    help = "Serve agents over QUIC until SIGTERM or SIGINT."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--host", default=settings.ENV.quic_host, help="address to listen on (QF_QUIC_HOST)"
        )
        parser.add_argument(
            "--port",
            type=_port,
            default=settings.ENV.quic_port,
            help="UDP port; 0: any free one (QF_QUIC_PORT)",
        )
        parser.add_argument(
            "--bridge-id", default="", help="unique among all bridges; default: HOSTNAME:PORT"
        )
        parser.add_argument(
            "--workers",
            type=_workers,
            default=settings.ENV.bridge_workers,
            help="processes that share the port (QF_BRIDGE_WORKERS)",
        )
        # What a parent tells its workers: which one it is, and the socket it inherits.
        parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
        parser.add_argument("--descriptor", type=int, help=argparse.SUPPRESS)

    def handle(
        self, *, host: str, port: int, bridge_id: str, workers: int, worker: int | None, **options: Any
    ) -> None:
        pki = settings.QF_DATA_DIR / "pki"
        try:
            tuning.check_version()
            config = server.configuration(
                pki / "server.pem", pki / "server.key", legacy=settings.QF_LEGACY_CLIENTS
            )
            limits = changed(settings.ENV.bridge_limits)
            if worker is not None:
                sockets = [steering.inherited(options["descriptor"])]
            elif workers > 1:
                sockets = open_sockets(host, port, workers)
            else:
                sockets = [udp.bind(host, port)]
        except FileNotFoundError as error:
            raise CommandError(
                f"{error.filename} is missing: `manage.py setup` makes the certificates"
            ) from error
        except (OSError, ValueError, tuning.WrongVersionError) as error:
            raise CommandError(str(error)) from error
        port = sockets[0].getsockname()[1]
        bridge_id = bridge_id or f"{socket.gethostname()}:{port}"
        try:
            if worker is None and workers > 1:
                Workers(sockets, partial(_worker_command, host, bridge_id, workers)).run()
                return
            metrics_port = settings.ENV.bridge_metrics_port
            with metrics.served(metrics_port and metrics_port + (worker or 0)):
                tuning.share_interpreter()
                make = partial(
                    Bridge,
                    bridge_id=bridge_id if worker is None else f"{bridge_id}/w{worker}",
                    endpoint=f"{socket.gethostname() if host in WILDCARDS else host}:{port}",
                    sock=sockets[0],
                    config=config,
                    domain=Domain(),
                    layer=get_channel_layer(),
                    limits=limits,
                    steering=steering.Steering(worker or 0, workers),
                )
                asyncio.run(_serve(make, is_worker=worker is not None))
        except Unavailable as error:
            raise CommandError(f"the database is not available: {error}") from error
        except (OSError, WorkersFailedError) as error:
            raise CommandError(str(error)) from error
        finally:
            for sock in sockets:
                sock.close()


def _worker_command(host: str, bridge_id: str, workers: int, worker: int, descriptor: int) -> list[str]:
    options = {
        "--host": host,
        "--bridge-id": bridge_id,
        "--workers": str(workers),
        "--worker": str(worker),
        "--descriptor": str(descriptor),
    }
    program = [sys.executable, str(settings.BASE_DIR / "manage.py"), "quic_bridge"]
    return [*program, *(f"{name}={value}" for name, value in options.items())]


async def _serve(make: Callable[[], Bridge], *, is_worker: bool) -> None:
    bridge, stop, loop = make(), asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if is_worker:  # the parent writes nothing: what can be read is its end
        loop.add_reader(sys.stdin, _parent_ended, loop, stop)
    # What the start has made stays for ever: the collections of new connections (`Freezer`) need not look at it.
    gc.collect()
    gc.freeze()
    await bridge.run(stop)


def _parent_ended(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    loop.remove_reader(sys.stdin)
    stop.set()
