"""http_check: does a site answer as it should?"""

from __future__ import annotations

import re
import socket
import ssl
import time
from datetime import datetime, timezone
from typing import Any, List, Optional
from urllib.parse import urlsplit

import httpx

from quartzflow_agent.plugins.base import Param, ParamError, Plugin, PluginFailed

MAX_BODY = 1024 * 1024  # bytes that are looked at
DAY = 86400  # seconds


class HttpCheck(Plugin):
    """Fails when a page is not what it should be, is slow, or its certificate runs out."""

    description = (
        "Fails when a URL does not answer as it should: status, text, delay, end of the certificate."
    )
    params = (
        Param("url", str, "http:// or https://", required=True),
        Param("status", int, "Expected status; 0: any of 200 to 299.", default=0, low=0, high=599),
        Param("pattern", str, "Regular expression that the body must match somewhere.", default=""),
        Param(
            "timeout_s",
            float,
            "Longest wait for connection and for each piece, seconds.",
            default=10.0,
            low=0.1,
        ),
        Param("max_ms", int, "Slowest whole answer allowed, ms; 0: any.", default=0, low=0),
        Param("follow_redirects", bool, "Judge the page that a redirect leads to.", default=False),
        Param("verify_tls", bool, "Whether the certificate must hold.", default=True),
        Param(
            "min_cert_days",
            int,
            "Days that the certificate must still be valid; 0: do not look.",
            default=0,
            low=0,
        ),
    )

    def run(self, **params: Any) -> None:
        """Raises PluginFailed, ParamError."""
        url = urlsplit(params["url"])
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ParamError("url: must start with http:// or https:// and name a host")
        try:
            pattern = re.compile(params["pattern"])
        except re.error as error:
            raise ParamError(f"pattern: {error}") from error
        if params["min_cert_days"] and (url.scheme != "https" or not params["verify_tls"]):
            raise ParamError("min_cert_days: needs https and verify_tls")
        start = time.monotonic()
        try:
            status, body = _get(params)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise PluginFailed(f"{type(error).__name__}: {error}") from error
        took = round((time.monotonic() - start) * 1000)
        print(f"status {status}, {len(body)} characters, {took} ms")  # noqa: T201
        problems: List[str] = []
        if status != params["status"] if params["status"] else not 200 <= status < 300:
            problems.append(f"status {status}, expected {params['status'] or '200 to 299'}")
        if not pattern.search(body):
            problems.append(f"the body does not match {params['pattern']!r}")
        if params["max_ms"] and took > params["max_ms"]:
            problems.append(f"answered after {took} ms, {params['max_ms']} ms allowed")
        if params["min_cert_days"]:
            left = certificate_days(url.hostname, url.port or 443, params["timeout_s"])
            print(f"the certificate is valid for {left:.0f} days more")  # noqa: T201
            if left < params["min_cert_days"]:
                problems.append(f"the certificate ends in {left:.0f} days, {params['min_cert_days']} wanted")
        if problems:
            raise PluginFailed("\n".join(problems))


def _get(params: Any) -> "tuple[int, str]":
    """Status and the start of the body."""
    body = b""
    with (
        httpx.Client(
            verify=params["verify_tls"],
            timeout=params["timeout_s"],
            follow_redirects=params["follow_redirects"],
        ) as client,
        client.stream("GET", params["url"], headers={"Accept-Encoding": "identity"}) as response,
    ):
        # As it came: nothing is unpacked, so that nothing can swell.
        for chunk in response.iter_raw():
            body += chunk
            if len(body) >= MAX_BODY:
                break
        return response.status_code, body[:MAX_BODY].decode(response.charset_encoding or "utf-8", "replace")


def certificate_days(host: str, port: int, timeout: float, context: Optional[ssl.SSLContext] = None) -> float:
    """How long a server's certificate is valid from now, days. Raises PluginFailed."""
    context = context or ssl.create_default_context()
    try:
        with (
            socket.create_connection((host, port), timeout) as plain,
            context.wrap_socket(plain, server_hostname=host) as sock,
        ):
            found = sock.getpeercert() or {}
    except OSError as error:
        raise PluginFailed(f"certificate of {host}:{port}: {error}") from error
    end = ssl.cert_time_to_seconds(str(found["notAfter"]))
    return (end - datetime.now(timezone.utc).timestamp()) / DAY
