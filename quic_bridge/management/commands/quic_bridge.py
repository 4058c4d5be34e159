"""`manage.py quic_bridge`: the process that agents connect to."""

import argparse
import asyncio
import signal
import socket
from typing import Any

from aioquic.quic.configuration import QuicConfiguration
from channels.layers import get_channel_layer
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from quic_bridge import metrics, server, tuning, udp
from quic_bridge.bridge import Bridge
from quic_bridge.domain import Domain, Unavailable
from quic_bridge.limits import Limits, changed

WILDCARDS = ("", "0.0.0.0", "::")  # noqa: S104  compared with, not bound to


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError("must be a port number")
    return port


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

    def handle(self, *, host: str, port: int, bridge_id: str, **options: Any) -> None:
        pki = settings.QF_DATA_DIR / "pki"
        try:
            tuning.check_version()
            config = server.configuration(pki / "server.pem", pki / "server.key")
            limits = changed(settings.ENV.bridge_limits)
            sock = udp.bind(host, port)
        except FileNotFoundError as error:
            raise CommandError(
                f"{error.filename} is missing: `manage.py setup` makes the certificates"
            ) from error
        except (OSError, ValueError, tuning.WrongVersionError) as error:
            raise CommandError(str(error)) from error
        try:
            with metrics.served(settings.ENV.bridge_metrics_port):
                asyncio.run(_serve(host, sock, config, limits, bridge_id))
        except Unavailable as error:
            raise CommandError(f"the database is not available: {error}") from error
        finally:
            sock.close()


async def _serve(
    host: str, sock: socket.socket, config: QuicConfiguration, limits: Limits, bridge_id: str
) -> None:
    port = sock.getsockname()[1]
    name = socket.gethostname()
    bridge = Bridge(
        bridge_id=bridge_id or f"{name}:{port}",
        endpoint=f"{name if host in WILDCARDS else host}:{port}",
        sock=sock,
        config=config,
        domain=Domain(),
        layer=get_channel_layer(),
        limits=limits,
    )
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await bridge.run(stop)
