"""The HTTP executor, against a real server on loopback."""

import asyncio
import json

import pytest
from quartzflow_agent.executors import Job, Output, ProcessRunner, Rejected, executors, http
from quartzflow_agent.executors.http import MAX_BODY, HttpExecutor
from quartzflow_agent.policy import Guarded, Policy
from quartzflow_agent.protocol import task_pb2

from tests.agent.support import instruction, until
from tests.services import free_port


class Site:
    """Answers every request alike, and keeps what it was asked."""

    def __init__(self):
        self.requests = []
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
        self.pause = 0.0
        self.serve_next = None  # instead of `answer`: called for each

    async def serve(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        body = await reader.readexactly(int(fields.get("content-length", 0)))
        self.requests.append((head.split("\r\n")[0], fields, body.decode()))
        await asyncio.sleep(self.pause)
        try:
            writer.write(self.serve_next() if self.serve_next else self.answer)
            await writer.drain()
        except ConnectionError:
            self.requests.append("hung up")
        writer.close()


@pytest.fixture
async def site():
    made = Site()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield made
    server.close()


@pytest.fixture
def job(tmp_path):
    made = []

    def make(params=None, **config):
        order = instruction(config=config, params=params or {})

        async def on_process(pid):
            raise AssertionError("no process")

        made.append(Job(order, Output(tmp_path / "x.log", 10_000_000), tmp_path, on_process))
        return made[-1]

    yield make
    for item in made:
        item.output.close()


async def test_a_2xx_answer_is_a_success(site, job):
    wanted = job(url=f"{site.url}/hook?secret=1")
    outcome = await HttpExecutor().run(wanted)
    assert (outcome.exit_code, outcome.reason) == (None, "")
    line, fields, _ = site.requests[0]
    assert line == "GET /hook?secret=1 HTTP/1.1"
    assert fields["x-qf-execution-id"] == "exec_1"
    assert wanted.output.head == f"GET {site.url}/hook\nHTTP/1.1 200 OK\nhello"


async def test_it_is_loaded_with_the_first_task_that_needs_it(site, job, home):
    outcome = await executors(ProcessRunner(home.root))[task_pb2.HTTP].run(job(url=site.url))
    assert (outcome.exit_code, outcome.reason) == (None, "")
    assert len(site.requests) == 1


async def test_method_headers_body_and_parameters_are_sent(site, job):
    wanted = job(
        {"day": "monday"},
        url=site.url,
        method="post",
        body='{"a": 1}',
        headers=json.dumps({"Content-Type": "application/json", "X-Number": 7}),
    )
    await HttpExecutor().run(wanted)
    line, fields, body = site.requests[0]
    assert (line, body) == ("POST / HTTP/1.1", '{"a": 1}')
    assert (fields["content-type"], fields["x-number"]) == ("application/json", "7")
    assert fields["x-qf-param-day"] == "monday"


@pytest.mark.parametrize(
    ("auth", "header"),
    [
        ({"username": "deploy", "password": "p:w{{ params.end }}"}, "Basic ZGVwbG95OnA6d3h5eg=="),
        ({"token": "{{ secrets.API }}"}, "Bearer abc123def"),
    ],
)
async def test_it_signs_in(site, job, auth, header):
    wanted = job(
        {"end": "xyz"},
        url=site.url,
        auth=json.dumps(auth),
        headers='{"authorization": "of old"}',
        secrets='{"API": "abc123def"}',
        parameters='{"end": "0"}',
    )
    assert (await HttpExecutor().run(wanted)).reason == ""
    sent = site.requests[0][1]
    assert sent["authorization"].lower() == header.lower()
    # What is filled in somewhere is not sent once more in clear.
    assert ("x-qf-param-end" in sent) == ("token" in auth)


@pytest.mark.parametrize(
    "auth", ['{"username": "a"}', '{"username": "a:b", "password": "c"}', '{"token": "a\\nb"}', "[1]"]
)
async def test_a_sign_in_that_makes_no_sense_is_rejected(site, job, auth):
    with pytest.raises(Rejected):
        await HttpExecutor().run(job(url=site.url, auth=auth))
    assert site.requests == []


@pytest.mark.parametrize(
    ("pattern", "error"),
    [
        ("^h.l+o$", ""),
        ("bye", "the body does not match 'bye'"),
        ("(", "expected_body cannot be searched for"),
    ],
)
async def test_the_body_decides_too(site, job, pattern, error):
    outcome = await HttpExecutor().run(job(url=site.url, expected_body=pattern))
    assert outcome.reason == ("executor_error" if error else "")
    assert outcome.error.startswith(error)


async def test_a_pattern_that_takes_for_ever_does_not_hold_up_the_agent(site, job, monkeypatch):
    monkeypatch.setattr(http, "PATTERN_TIMEOUT", 1.0)
    body = b"a" * 40 + b"!"
    site.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 41\r\n\r\n" + body
    work = asyncio.ensure_future(HttpExecutor().run(job(url=site.url, expected_body="^(a+)+$")))
    turns = 0
    while not work.done():
        turns += 1
        await asyncio.sleep(0.02)
    assert work.result().error == "expected_body takes longer than 1 s on this answer"
    assert turns > 20


def redirect(to, status="302 Found"):
    return f"HTTP/1.1 {status}\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode()


@pytest.fixture
async def other():
    made = Site()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield made
    server.close()


async def test_redirects_are_followed_when_asked_for(site, other, job):
    site.answer = redirect(f"{other.url}/there?key=1")
    wanted = job(
        {"x": "1"},
        url=site.url,
        follow_redirects="true",
        auth='{"token": "t"}',
        headers='{"X-Key": "k", "Cookie": "c"}',
    )
    outcome = await HttpExecutor().run(wanted)
    assert outcome.reason == ""
    assert site.requests[0][1]["authorization"] == "bearer t"
    line, fields, _ = other.requests[0]
    assert line == "GET /there?key=1 HTTP/1.1"
    # Another site learns nothing that was meant for the first.
    assert not {"authorization", "x-key", "cookie", "x-qf-param-x", "x-qf-task-id"} & set(fields)
    assert wanted.output.head == (
        f"GET {site.url}/\nHTTP/1.1 302 Found\nGET {other.url}/there\nHTTP/1.1 200 OK\nhello"
    )


async def test_the_same_site_keeps_the_headers(site, job):
    answers = iter([redirect("/b"), site.answer])
    site.serve_next = lambda: next(answers)
    outcome = await HttpExecutor().run(
        job(url=f"{site.url}/a", follow_redirects="true", headers='{"X-Key": "k"}')
    )
    assert outcome.reason == ""
    assert [(line, fields["x-key"]) for line, fields, _ in site.requests] == [
        ("GET /a HTTP/1.1", "k"),
        ("GET /b HTTP/1.1", "k"),
    ]


async def test_another_site_does_not_get_the_body(site, other, job):
    site.answer = redirect(other.url, "307 Temporary Redirect")
    outcome = await HttpExecutor().run(
        job(url=site.url, method="POST", body="secret", follow_redirects="true")
    )
    assert (outcome.reason, other.requests) == ("executor_error", [])
    assert "must not see the body" in outcome.error


async def test_redirects_in_a_circle_end(site, job):
    site.answer = redirect("/")
    outcome = await HttpExecutor().run(job(url=site.url, follow_redirects="true"))
    assert (outcome.reason, outcome.error) == ("executor_error", "TooManyRedirects: more than 10 redirects")
    assert len(site.requests) == 11


async def test_a_redirect_does_not_lead_around_the_hosts_policy(site, job):
    port = site.url.rpartition(":")[2]
    site.answer = redirect(f"http://localhost:{port}/")
    guarded = Guarded(HttpExecutor(), Policy(http_hosts=["127.*"]))
    with pytest.raises(Rejected, match="http_hosts: 'localhost' is not allowed"):
        await guarded.run(job(url=site.url, follow_redirects="true"))
    assert len(site.requests) == 1


@pytest.mark.parametrize(
    ("status", "expected", "error"),
    [
        ("503 Busy", "", "status 503, expected 200..299"),
        ("301 Moved", "", "status 301, expected 200..299"),
        ("200 OK", "[201, 204]", "status 200, expected 201, 204"),
        ("404 Gone", "[404]", ""),
        ("404 Gone", "404", ""),
    ],
)
async def test_the_status_decides(site, job, status, expected, error):
    site.answer = f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()
    outcome = await HttpExecutor().run(job(url=site.url, expected_status=expected))
    assert (outcome.reason, outcome.error) == ("executor_error" if error else "", error)


async def test_a_password_in_the_address_is_not_logged(site, job):
    wanted = job(url=site.url.replace("//", "//user:secret@"))
    await HttpExecutor().run(wanted)
    assert "authorization" in site.requests[0][1]
    assert "secret" not in wanted.output.head


async def test_nobody_there_is_a_failure_that_says_so(job):
    outcome = await HttpExecutor().run(job(url=f"http://127.0.0.1:{free_port()}/"))
    assert outcome.reason == "executor_error"
    assert outcome.error.startswith("ConnectError")


async def test_it_stops_when_it_is_told_to(site, job):
    site.pause = 0.5
    wanted = job(url=site.url)
    work = asyncio.ensure_future(HttpExecutor().run(wanted))
    await until(lambda: site.requests)
    wanted.stop.request("timeout")
    assert (await asyncio.wait_for(work, 0.3)).stopped
    await asyncio.sleep(0.6)


async def test_of_a_long_answer_the_start_is_read(site, job):
    site.answer = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (3 * MAX_BODY)
    wanted = job(url=site.url)
    assert (await HttpExecutor().run(wanted)).reason == ""
    assert MAX_BODY < wanted.output.size < MAX_BODY + 300


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "url must start with"),
        ({"url": "ftp://x/"}, "url must start with"),
        ({"url": "file:///etc/passwd"}, "url must start with"),
        ({"url": "http://"}, "url must start with"),
        ({"url": "http://x/\x01"}, "cannot be made"),
        ({"url": "http://x", "method": "STEAL"}, "method 'STEAL'"),
        ({"url": "http://x", "headers": "[]"}, "headers must be a JSON object"),
        ({"url": "http://x", "expected_status": "[2000]"}, "expected_status"),
        ({"url": "http://x", "expected_status": "ok"}, "expected_status"),
        ({"url": "http://x", "colour": "red"}, "unknown setting"),
    ],
)
async def test_settings_that_make_no_sense_are_rejected(job, config, message):
    with pytest.raises(Rejected, match=message):
        await HttpExecutor().run(job(**config))


async def test_placeholders_are_filled_in_and_other_parameters_sent_as_headers(site, job):
    wanted = job(
        {"Name": 'a/b "c"', "city": "北京"},
        url=site.url + "/x/{{ params.name }}?n={{ params.n }}",
        method="POST",
        headers='{"Content-Type": "application/json", "X-Number": "{{ params.n }}"}',
        body='{"name": "{{ params.name }}", "n": {{ params.n }}}',
        parameters='{"n": 7}',
    )
    outcome = await HttpExecutor().run(wanted)
    line, fields, body = site.requests[0]
    assert outcome.reason == ""
    assert line == "POST /x/a%2Fb%20%22c%22?n=7 HTTP/1.1"
    assert (fields["x-number"], json.loads(body)) == ("7", {"name": 'a/b "c"', "n": 7})
    assert (fields["x-qf-param-city"], "x-qf-param-name" in fields) == ("北京", False)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"url": "http://{{ params.x }}/"}, "scheme, host and port of the address are fixed"),
        ({"headers": '{"A": "{{ params.x }}"}'}, "one line without control characters"),
        ({"body": "{{ params.y }}"}, "the parameter 'y' is not given"),
        ({"body": "{{ secrets.Y }}"}, "the server has no such secret"),
        ({}, "'X' cannot be sent as a header"),
    ],
)
async def test_a_request_that_a_parameter_would_break_is_rejected(site, job, config, message):
    with pytest.raises(Rejected, match=message):
        await HttpExecutor().run(job({"x": "a\r\nb"}, **{"url": site.url, **config}))
    assert site.requests == []
