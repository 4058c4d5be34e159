"""tcp_check: does somebody answer at that port?"""

from __future__ import annotations

import socket
import time
from typing import Any, List, Tuple

from quartzflow_agent.plugins.base import Param, ParamError, Plugin, PluginFailed


class TcpCheck(Plugin):
    """Fails when a TCP port cannot be reached."""

    description = "Fails when a TCP port does not accept connections, or not quickly enough."
    params = (
        Param("targets", list, "HOST:PORT or [IPV6]:PORT of each port.", required=True),
        Param("timeout_s", float, "Longest wait for each try, seconds.", default=5.0, low=0.1, high=300),
        Param("tries", int, "So often before it counts as down.", default=1, low=1, high=10),
        Param("pause_s", float, "Between two tries, seconds.", default=1.0, low=0, high=300),
        Param("max_ms", int, "Slowest connection allowed, ms; 0: any.", default=0, low=0),
    )

    def run(self, **params: Any) -> None:
        """Raises PluginFailed naming every port that is down, ParamError for what is no target."""
        targets = [(text, *_target(text)) for text in params["targets"]]
        if not targets:
            raise ParamError("targets: name at least one")
        problems: List[str] = []
        for text, host, port in targets:
            problem = self._check(host, port, params)
            if problem:
                problems.append(f"{text}: {problem}")
            print(f"{text}: {problem or 'open'}")  # noqa: T201
        if problems:
            raise PluginFailed("\n".join(problems))

    def _check(self, host: str, port: int, params: Any) -> str:
        """What is wrong with it; "": nothing."""
        problem = ""
        for number in range(params["tries"]):
            if number:
                time.sleep(params["pause_s"])
            start = time.monotonic()
            try:
                socket.create_connection((host, port), params["timeout_s"]).close()
            except OSError as error:
                problem = str(error.strerror or error)
                continue
            took = round((time.monotonic() - start) * 1000)
            if not params["max_ms"] or took <= params["max_ms"]:
                return ""
            problem = f"answered after {took} ms, {params['max_ms']} ms allowed"
        return problem


def _target(text: str) -> Tuple[str, int]:
    host, colon, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ParamError(f"targets: {text!r} is not HOST:PORT")
    return host, int(port)
