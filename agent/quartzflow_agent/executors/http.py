"""The HTTP executor: one request, judged by its status."""

from __future__ import annotations

import asyncio
import json
from typing import FrozenSet, Optional, cast

import httpx

from quartzflow_agent.executors.base import Job, Outcome, Rejected
from quartzflow_agent.executors.output import STDOUT

SETTINGS = frozenset({"url", "method", "headers", "body", "expected_status", "verify_tls"})
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
CONNECT_TIMEOUT = 30.0  # seconds; for the whole there is the task's own
MAX_BODY = 1024 * 1024  # bytes of the answer that are read


class HttpExecutor:
    """Settings: url (required), method (GET), headers (JSON object), body, expected_status (JSON list; 200..299),
    verify_tls (true). Parameters are sent as headers X-QF-Param-NAME. Redirects are not followed.
    """

    async def run(self, job: Job) -> Outcome:
        """Raises Rejected."""
        request = _request(job)
        expected = _expected(job.config.get("expected_status", ""))
        verify = job.config.get("verify_tls", "true") != "false"
        task = asyncio.ensure_future(_send(job, request, verify, expected))
        try:
            stopped = await job.stop.or_done(task)
            return Outcome(stopped=True) if stopped else task.result()
        finally:
            task.cancel()
            await asyncio.wait([task])


async def _send(
    job: Job, request: httpx.Request, verify: bool, expected: Optional[FrozenSet[int]]
) -> Outcome:
    url = request.url
    # Neither a password nor a token in the query belongs into a log.
    job.output.note(f"{request.method} {url.scheme}://{url.netloc.decode().rpartition('@')[2]}{url.path}")
    timeout = httpx.Timeout(None, connect=CONNECT_TIMEOUT)
    try:
        async with httpx.AsyncClient(verify=verify, timeout=timeout, trust_env=True) as client:
            response = await client.send(request, stream=True)
            try:
                job.output.note(f"{response.http_version} {response.status_code} {response.reason_phrase}")
                await _read(job, response)
            finally:
                await response.aclose()
    except httpx.HTTPError as error:
        message = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return Outcome(reason="executor_error", error=message)
    status = response.status_code
    if status in expected if expected is not None else 200 <= status < 300:
        return Outcome()
    wanted = "200..299" if expected is None else ", ".join(map(str, sorted(expected)))
    return Outcome(reason="executor_error", error=f"status {status}, expected {wanted}")


async def _read(job: Job, response: httpx.Response) -> None:
    """The start of the body, as it came: nothing is unpacked, so that nothing can swell."""
    size = 0
    async for chunk in response.aiter_raw():
        job.output.feed(STDOUT, chunk[: MAX_BODY - size])
        size += len(chunk)
        if size > MAX_BODY:
            job.output.note(f"\n[the answer is longer than {MAX_BODY} bytes; the rest was not read]")
            return


def _request(job: Job) -> httpx.Request:
    job.check_settings(SETTINGS)
    method = (job.config.get("method", "") or "GET").upper()
    if method not in METHODS:
        raise Rejected(f"method {method!r} is none of {', '.join(sorted(METHODS))}")
    headers = {
        "Accept-Encoding": "identity",
        "X-QF-Task-Id": job.instruction.task_id,
        "X-QF-Execution-Id": job.instruction.execution_id,
        **job.parameters("X-QF-Param-"),
        **job.json_object("headers"),
    }
    body = job.config.get("body", "")
    try:
        request = httpx.Request(
            method, job.config.get("url", ""), headers=headers, content=body.encode() if body else None
        )
    except (httpx.InvalidURL, ValueError) as error:
        raise Rejected(f"the request cannot be made: {error}") from error
    if request.url.scheme not in ("http", "https") or not request.url.host:
        raise Rejected("url must start with http:// or https:// and name a host")
    return request


def _expected(text: str) -> Optional[FrozenSet[int]]:
    if not text:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if isinstance(value, int):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(item, int) and 100 <= item < 600 for item in value):
        raise Rejected("expected_status must be a JSON list of status codes")
    return frozenset(cast("list[int]", value)) or None
