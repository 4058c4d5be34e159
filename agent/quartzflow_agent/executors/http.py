"""The HTTP executor: one request, judged by its status."""

from __future__ import annotations

import asyncio
import json
from typing import Dict, FrozenSet, Optional, Tuple, cast

import httpx

from quartzflow_agent.executors.base import Job, Outcome, Rejected
from quartzflow_agent.executors.output import STDOUT
from quartzflow_agent.request_text import fill_body, fill_header, fill_url
from quartzflow_agent.substitution import SubstitutionError, find

SETTINGS = frozenset({"url", "method", "headers", "body", "expected_status", "verify_tls"})
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
CONNECT_TIMEOUT = 30.0  # seconds; for the whole there is the task's own
MAX_BODY = 1024 * 1024  # bytes of the answer that are read


class HttpExecutor:
    """Settings: url (required), method (GET), headers (JSON object), body, expected_status (JSON list; 200..299),
    verify_tls (true), parameters (JSON object: defaults). Redirects are not followed.

    `{{ params.NAME }}` in url, headers and body is filled in, quoted for its place, see request_text; parameters that
    no placeholder names are sent as headers X-QF-Param-NAME.
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
    try:
        url, own, body = _filled(job)
        headers = {
            "Accept-Encoding": "identity",
            "X-QF-Task-Id": job.instruction.task_id,
            "X-QF-Execution-Id": job.instruction.execution_id,
            **_unnamed(job),
            **own,
        }
        request = httpx.Request(
            method,
            url,
            headers=[(name.encode(), value.encode()) for name, value in headers.items()],
            content=body.encode() if body else None,
        )
    except SubstitutionError as error:
        raise Rejected(str(error)) from error
    except (httpx.InvalidURL, ValueError) as error:
        raise Rejected(f"the request cannot be made: {error}") from error
    if request.url.scheme not in ("http", "https") or not request.url.host:
        raise Rejected("url must start with http:// or https:// and name a host")
    return request


def _filled(job: Job) -> Tuple[str, Dict[str, str], str]:
    """Address, headers and body, values put in."""
    templates = job.json_object("headers")
    headers = {name: fill_header(value, job.value) for name, value in templates.items()}
    content_type = next((value for name, value in headers.items() if name.lower() == "content-type"), "")
    body = fill_body(job.config.get("body", ""), content_type, job.value)
    return fill_url(job.config.get("url", ""), job.value), headers, body


def _unnamed(job: Job) -> Dict[str, str]:
    """Headers for the parameters that nothing asks for."""
    config = job.config
    named = find(
        "\n".join((config.get("url", ""), config.get("body", ""), *job.json_object("headers").values()))
    )
    used = {name.upper() for _, name in named}
    headers = {}
    for name, value in job.parameters("").items():
        if name in used:
            continue
        if any((char < " " and char != "\t") or char == "\x7f" for char in value):
            raise Rejected(f"parameter {name!r} cannot be sent as a header: it has control characters")
        headers[f"X-QF-Param-{name}"] = value
    return headers


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
