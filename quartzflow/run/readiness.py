"""Watches a starting installation and says when it works, or what is still missing."""

import http.client
import json
import threading
import time
from collections.abc import Callable

from quartzflow.env import Env

from .joining import ANY_ADDRESS

ASK_EVERY = 0.3  # seconds
REPORT_EVERY = 20.0  # seconds between two words on what is missing


def console_url(env: Env) -> str:
    """Where a browser on this machine finds the console."""
    host = "127.0.0.1" if env.http_host in ANY_ADDRESS else env.http_host
    return f"http://{f'[{host}]' if ':' in host else host}:{env.http_port}/"


def missing_parts(env: Env) -> list[str]:
    """The parts that /readyz finds missing now; none when all work together."""
    host = "127.0.0.1" if env.http_host in ANY_ADDRESS else env.http_host
    allowed = next((name for name in env.allowed_hosts if name[0] not in ".*"), "localhost")
    connection = http.client.HTTPConnection(host, env.http_port, timeout=5)
    try:
        connection.request("GET", "/readyz", headers={"Host": allowed})
        response = connection.getresponse()
        body = response.read()
        if response.status == 200:
            return []
        parts = json.loads(body)["parts"]
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return ["console"]
    finally:
        connection.close()
    return [name for name, part in parts.items() if not part["ok"]]


def watch(env: Env, ready: Callable[[], None], waiting: Callable[[list[str]], None]) -> threading.Thread:
    """Ask in a thread of its own until all is there, then call `ready`; meanwhile call `waiting` now and then."""

    def ask() -> None:
        said = time.monotonic()
        while missing := missing_parts(env):
            if time.monotonic() > said + REPORT_EVERY:
                said = time.monotonic()
                waiting(missing)
            time.sleep(ASK_EVERY)
        ready()

    thread = threading.Thread(target=ask, name="readiness", daemon=True)
    thread.start()
    return thread
