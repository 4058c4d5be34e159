"""The HTTP executor: one request, and the redirects that it is sent on by, judged by status and body."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
from typing import Dict, FrozenSet, Optional, Tuple, cast

import httpx

from quartzflow_agent.executors.base import Job, Outcome, Rejected
from quartzflow_agent.executors.output import STDOUT
from quartzflow_agent.request_text import fill_body, fill_header, fill_url
from quartzflow_agent.substitution import SubstitutionError, find

SETTINGS = frozenset(
    {
        "url",
        "method",
        "headers",
        "body",
        "auth",
        "follow_redirects",
        "expected_status",
        "expected_body",
        "verify_tls",
    }
)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
CONNECT_TIMEOUT = 30.0  # seconds; for the whole there is the task's own
MAX_BODY = 1024 * 1024  # bytes of the answer that are read
MAX_REDIRECTS = 10
# Headers that another site than the one that the task names may see.
PUBLIC_HEADERS = frozenset(
    {"accept", "accept-encoding", "content-type", "content-length", "user-agent", "host"}
)
PATTERN_TIMEOUT = 10.0  # seconds
# In a process of its own: a pattern may take for ever, and would take the agent with it.
SEARCH = (
    "import re, sys; body = sys.stdin.buffer.read().decode('utf-8', 'replace'); "
    "sys.exit(0 if re.search(sys.argv[1], body) else 3)"
)


class HttpExecutor:
    """Settings: url (required), method (GET), headers (JSON object), body, auth (JSON object: username and password,
    or token), follow_redirects (false), expected_status (JSON list; 200..299), expected_body (regular expression),
    verify_tls (true), parameters (JSON object: defaults).

    `{{ params.NAME }}` in url, headers, body and auth is filled in, quoted for its place, see request_text; parameters
    that no placeholder names are sent as headers X-QF-Param-NAME.
    """

    async def run(self, job: Job) -> Outcome:
        """Raises Rejected."""
        request = _request(job)
        expected = _expected(job.config.get("expected_status", ""))
        task = asyncio.ensure_future(_judge(job, request, expected))
        try:
            stopped = await job.stop.or_done(task)
            return Outcome(stopped=True) if stopped else task.result()
        finally:
            task.cancel()
            await asyncio.wait([task])


async def _judge(job: Job, request: httpx.Request, expected: Optional[FrozenSet[int]]) -> Outcome:
    pattern = job.config.get("expected_body", "")
    try:
        status, body = await _send(job, request)
    except httpx.HTTPError as error:
        message = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return Outcome(reason="executor_error", error=message)
    if status not in expected if expected is not None else not 200 <= status < 300:
        wanted = "200..299" if expected is None else ", ".join(map(str, sorted(expected)))
        return Outcome(reason="executor_error", error=f"status {status}, expected {wanted}")
    if pattern:
        loop = asyncio.get_running_loop()
        problem = await loop.run_in_executor(None, _search, pattern, body)
        if problem:
            return Outcome(reason="executor_error", error=problem)
    return Outcome()


async def _send(job: Job, request: httpx.Request) -> Tuple[int, bytes]:
    """Status and the start of the body of the last answer. Raises httpx.HTTPError, Rejected."""
    timeout = httpx.Timeout(None, connect=CONNECT_TIMEOUT)
    verify = job.config.get("verify_tls", "true") != "false"
    follow = job.config.get("follow_redirects", "") == "true"
    async with httpx.AsyncClient(verify=verify, timeout=timeout, trust_env=True) as client:
        for _number in range(MAX_REDIRECTS + 1):
            url = request.url
            # Neither a password nor a token in the query belongs into a log.
            place = f"{url.scheme}://{url.netloc.decode().rpartition('@')[2]}{url.path}"
            job.output.note(f"{request.method} {place}")
            response = await client.send(request, stream=True)
            try:
                job.output.note(f"{response.http_version} {response.status_code} {response.reason_phrase}")
                if not follow or response.next_request is None:
                    return response.status_code, await _read(job, response)
            finally:
                await response.aclose()
            onward = response.next_request
            job.check_host(onward.url.host)
            if not _same_site(request.url, onward.url):
                if await onward.aread():
                    raise httpx.RequestError(
                        f"{onward.url.host} is another site, which must not see the body"
                    )
                for name in set(onward.headers) - PUBLIC_HEADERS:
                    del onward.headers[name]
            request = onward
    raise httpx.TooManyRedirects(f"more than {MAX_REDIRECTS} redirects")


def _same_site(one: httpx.URL, other: httpx.URL) -> bool:
    """Whether what one may see may be shown to the other, too."""
    secured = (one.scheme, one.port, other.scheme, other.port) == ("http", None, "https", None)
    return one.host == other.host and (secured or (one.scheme, one.port) == (other.scheme, other.port))


async def _read(job: Job, response: httpx.Response) -> bytes:
    """The start of the body, as it came: nothing is unpacked, so that nothing can swell."""
    size, start = 0, b""
    async for chunk in response.aiter_raw():
        part = chunk[: MAX_BODY - size]
        job.output.feed(STDOUT, part)
        start += part
        size += len(chunk)
        if size > MAX_BODY:
            job.output.note(f"\n[the answer is longer than {MAX_BODY} bytes; the rest was not read]")
            break
    return start


def _search(pattern: str, body: bytes) -> str:
    """What is wrong with the body; "": it matches."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", SEARCH, pattern],
            input=body,
            capture_output=True,
            timeout=PATTERN_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"expected_body takes longer than {PATTERN_TIMEOUT:.0f} s on this answer"
    if done.returncode in (0, 3):
        return f"the body does not match {pattern!r}" if done.returncode else ""
    return f"expected_body cannot be searched for: {done.stderr.decode(errors='replace').strip()[-500:]}"


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
    authorization = _authorization(job)
    if authorization:
        headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
        headers["Authorization"] = authorization
    content_type = next((value for name, value in headers.items() if name.lower() == "content-type"), "")
    body = fill_body(job.config.get("body", ""), content_type, job.value)
    return fill_url(job.config.get("url", ""), job.value), headers, body


def _authorization(job: Job) -> str:
    """The header that the setting `auth` asks for; "": none."""
    given = job.json_object("auth")
    if not given:
        return ""
    filled = {name: fill_header(value, job.value) for name, value in given.items()}
    if any(char < " " or char == "\x7f" for text in filled.values() for char in text):
        raise Rejected("auth has control characters")
    if set(filled) == {"token"}:
        return f"Bearer {filled['token']}"
    if set(filled) != {"username", "password"} or ":" in filled["username"]:
        raise Rejected("auth must have username (without a colon) and password, or token")
    pair = f"{filled['username']}:{filled['password']}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _unnamed(job: Job) -> Dict[str, str]:
    """Headers for the parameters that nothing asks for."""
    config = job.config
    quoted = (*job.json_object("headers").values(), *job.json_object("auth").values())
    named = find("\n".join((config.get("url", ""), config.get("body", ""), *quoted)))
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
