"""A receiver of messages on loopback, which the tests allow."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from executions_app.alerts.actions import do_save_channel, do_save_rule
from executions_app.alerts.models import AlertChannel, AlertRule
from quartzflow import system_settings
from tests import people

SECRET = "sixteen-characters-or-more"


@dataclass
class Receiver:
    """What has arrived, and what is answered."""

    url: str = ""
    status: int = 200
    location: str = ""
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)  # path, headers, body

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _path, _headers, body in self.got]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.got.append((self.path, {key.lower(): value for key, value in self.headers.items()}, body))
            self.send_response(found.status)
            if found.location:
                self.send_header("Location", found.location)
            answer = b'{"errcode": 0, "errmsg": "ok"}'
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: Any) -> None:
            """Not into the test's output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}"
    system_settings.assume({"alert_networks": ["127.0.0.0/8"]})
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


def webhook(receiver: Receiver, name: str = "hook", **fields: Any) -> AlertChannel:
    config = {"url": f"{receiver.url}/in?x=1", "secret": SECRET}
    data = {"name": name, "kind": "webhook", "language": "en", "config": config, **fields}
    return do_save_channel(people.admin(), None, data)


def rule(kind: str, *channels: AlertChannel, **fields: Any) -> AlertRule:
    data = {"name": f"on {kind}", "kind": kind, "channel_ids": [channel.pk for channel in channels], **fields}
    return do_save_rule(people.admin(), None, data)
