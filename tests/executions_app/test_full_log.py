"""The whole log of an execution, over the API, from an agent played by the test; and from the running product."""

import asyncio
import hashlib
import json
import threading
import time
from contextlib import asynccontextmanager

import pytest
from channels.layers import channel_layers, get_channel_layer
from django.test import AsyncClient
from django.utils.http import urlencode
from guardian.shortcuts import assign_perm
from knox.models import AuthToken

from executions_app import full_log
from executions_app.choices import ExecutionType
from executions_app.dispatch import fire, new_firing
from executions_app.models import Execution
from quartzflow import bridges
from quartzflow.errors import QuartzError
from tests import people
from tests.services import SUCCESS, executions, shell_task, wait_until

CHUNK = 128 * 1024


@pytest.fixture
def execution(transactional_db, redis_url):
    people.online_client()
    fire([new_firing(people.task(), ExecutionType.MANUAL)])
    return Execution.objects.get()


class FakeBridge:
    """Answers log requests with parts of `log`, as a bridge and its agent do."""

    def __init__(self, log=b"", error=""):
        self.log, self.error = log, error
        self.asked = []
        self.drop = 0  # windows whose last chunk gets lost

    async def serve(self):
        layer = get_channel_layer()
        while True:
            request = await layer.receive(bridges.channel_name(people.BRIDGE))
            if request["type"] != "log_fetch":
                continue
            self.asked.append((request["offset"], request["limit"]))
            for chunk in self.chunks(request):
                await layer.send(request["reply"], chunk)

    def chunks(self, request):
        begin, limit = request["offset"], request["limit"]
        part = self.log[begin : begin + limit] if limit else self.log[begin:]
        common = {
            "type": "log.chunk",
            "request_id": request["request_id"],
            "execution_id": request["execution_id"],
        }
        if self.error:
            yield {**common, "offset": 0, "total": 0, "data": b"", "last": True, "error": self.error}
            return
        pieces = range(0, max(len(part), 1), CHUNK)
        for position in pieces:
            last = position == pieces[-1]
            if last and self.drop:
                self.drop -= 1
                return
            data = part[position : position + CHUNK]
            yield {
                **common,
                "offset": begin + position,
                "total": len(self.log),
                "data": data,
                "last": last,
                "error": "",
            }


@asynccontextmanager
async def served(bridge):
    serving = asyncio.create_task(bridge.serve())
    try:
        yield bridge
    finally:
        while not serving.done():  # redis' client may take a cancellation for a lost connection
            serving.cancel()
            await asyncio.wait([serving], timeout=0.2)


class Answer:
    """A response with its content, as far as it came; `broken`: why it did not come to its end."""

    def __init__(self, response):
        self.response = response
        self.status_code = response.status_code
        self.headers = response.headers
        self.content = b""
        self.broken = None

    async def read(self):
        if not self.response.streaming:
            self.content = self.response.content
            return
        try:
            async for data in self.response.streaming_content:
                self.content += data
        except QuartzError as error:
            self.broken = error

    def json(self):
        return json.loads(self.content)


def get(execution, bridge, user=None, path="logs/full", method="GET", **query):
    """One request; the answer."""
    token = AuthToken.objects.create(user or people.admin())[1]
    url = f"/api/v1/executions/{execution.pk}/{path}?{urlencode(query)}"

    async def run():
        # A loop of its own, and so a layer: one that a cancelled reader has left may still hold a lock of another loop.
        channel_layers.backends.clear()
        async with served(bridge):
            call = AsyncClient().generic(method, url, headers={"Authorization": f"Token {token}"})
            answer = Answer(await call)
            await answer.read()
            return answer

    return asyncio.run(run())


def test_a_log_comes_window_by_window(execution):
    log = bytes(range(256)) * 10_000
    bridge = FakeBridge(log)
    answer = get(execution, bridge)
    assert (answer.status_code, answer.content) == (200, log)
    assert (answer.headers["content-length"], answer.headers["x-total"]) == ("2560000", "2560000")
    window = full_log.WINDOW
    assert bridge.asked == [(0, window), (window, window), (2 * window, len(log) - 2 * window)]


@pytest.mark.parametrize(
    ("query", "begin", "end"),
    [({"offset": 10}, 10, 300), ({"limit": 7}, 0, 7), ({"offset": 298, "limit": 9}, 298, 300),
     ({"offset": 300}, 300, 300), ({"offset": 999}, 300, 300)],
)  # fmt: skip
def test_parts_of_a_log(execution, query, begin, end):
    log = b"x1y" * 100
    answer = get(execution, FakeBridge(log), **query)
    assert answer.content == log[begin:end]
    assert (answer.headers["content-length"], answer.headers["x-total"]) == (str(end - begin), "300")


def test_an_empty_log(execution):
    answer = get(execution, FakeBridge(b""), path="logs/full/")
    assert (answer.status_code, answer.content, answer.headers["x-total"]) == (200, b"", "0")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [("offline", 409, 1010), ("this host has no log of it (any more)", 404, 1011), ("timeout", 504, 1017),
     ("no log", 404, 1011)],
)  # fmt: skip
def test_why_there_is_none(execution, error, status, code):
    answer = get(execution, FakeBridge(error=error))
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["message"]


def test_a_host_that_is_offline(execution):
    from groups_app import presence

    presence.mark_offline([("web-1", "s1")], "test")
    bridge = FakeBridge()
    assert get(execution, bridge).status_code == 409
    assert bridge.asked == []


def test_an_execution_that_no_host_had(execution):
    Execution.objects.update(client_id="")
    assert get(execution, FakeBridge()).status_code == 404


def test_a_host_that_does_not_answer(execution, monkeypatch):
    monkeypatch.setattr(full_log, "ANSWER_TIMEOUT", 0.2)
    bridge = FakeBridge(b"x")
    bridge.drop = 1
    assert get(execution, bridge).status_code == 504


def test_a_window_that_gets_lost_is_asked_for_again(execution, monkeypatch):
    monkeypatch.setattr(full_log, "ANSWER_TIMEOUT", 0.3)
    log = b"0123456789" * 200_000
    bridge = FakeBridge(log)
    original, windows = bridge.chunks, []

    def chunks(request):
        windows.append(request["offset"])
        bridge.drop = len(windows) in (2, 3)
        yield from original(request)

    bridge.chunks = chunks
    assert get(execution, bridge).content == log
    assert len(windows) == 4


def test_a_log_that_breaks_off_is_seen_to(execution, monkeypatch):
    bridge = FakeBridge(b"x" * 2_000_000)
    original = bridge.chunks

    def chunks(request):
        bridge.error = "offline" if request["offset"] else ""
        yield from original(request)

    bridge.chunks = chunks
    answer = get(execution, bridge)
    assert isinstance(answer.broken, full_log.AgentOffline)  # which ends the connection before its time
    assert len(answer.content) < int(answer.headers["content-length"])


def test_more_than_may_be_fetched_at_once(execution, settings):
    settings.QF_LOG_FETCH_LIMIT = 100
    answer = get(execution, FakeBridge(b"x" * 200))
    assert (answer.status_code, answer.json()["code"]) == (413, 1018)
    assert len(get(execution, FakeBridge(b"x" * 200), offset=50, limit=100).content) == 100


def test_nonsense_is_refused(execution):
    for query in ({"offset": "x"}, {"limit": "-1"}, {"offset": "9" * 19}):
        answer = get(execution, FakeBridge(), **query)
        assert (answer.status_code, list(answer.json()["errors"])) == (400, list(query))
    assert get(execution, FakeBridge(), method="POST").status_code == 405


def test_rights(execution):
    bridge, user = FakeBridge(b"secret"), people.stranger()
    assert get(execution, bridge, user).status_code == 404
    task = execution.task
    assign_perm("tasks_app.view_task", user, task)
    assert get(execution, bridge, user).status_code == 403
    assert bridge.asked == []
    assign_perm("tasks_app.view_logs_task", user, task)
    assert get(execution, bridge, user).content == b"secret"

    url = f"/api/v1/executions/{execution.pk}/logs/full"
    assert asyncio.run(AsyncClient().get(url)).status_code == 401


def test_fifty_megabytes_through_the_running_product_take_little_memory(stack):
    """A real agent and bridge. The agent keeps at most 10 MB by itself: the log is made larger behind its back."""
    size = 50 * 1024 * 1024
    with stack.api() as api:
        task = shell_task(api, "long log", "* * * * * *", "echo $QF_EXECUTION_ID")
        wait_until(lambda: any(row["status"] == SUCCESS for row in executions(api, task)), 20, "an execution")
        api.post(f"/tasks/{task}/disable")
        row = next(row for row in executions(api, task) if row["status"] == SUCCESS)
        name = row["execution_id"].encode()
        logs = (stack.data_dir / "agent").rglob("*.log")
        path = next(path for path in logs if path.stat().st_size < 1000 and name in path.read_bytes())
        block = hashlib.sha256(name).digest() * 32_768
        with path.open("ab") as file:
            while file.tell() < size:
                file.write(block[: size - file.tell()])
        programs = [
            process for name, process in stack.programs().items() if name in ("daphne", "bridge", "agent")
        ]
        before = [process.memory_info().rss for process in programs]
        most, done = list(before), threading.Event()

        def sample():
            while not done.wait(0.1):
                for number, process in enumerate(programs):
                    most[number] = max(most[number], process.memory_info().rss)

        sampler = threading.Thread(target=sample)
        sampler.start()
        digest, received, started = hashlib.sha256(), 0, time.monotonic()
        try:
            with api.stream("GET", f"/executions/{row['id']}/logs/full", timeout=60) as answer:
                assert answer.headers["x-total"] == answer.headers["content-length"] == str(size)
                for data in answer.iter_bytes():
                    received += len(data)
                    digest.update(data)
        finally:
            done.set()
            sampler.join()
        assert received == size
        assert digest.digest() == hashlib.sha256(path.read_bytes()).digest()
        assert time.monotonic() - started < 50
        grown = [(peak - start) / 2**20 for peak, start in zip(most, before, strict=True)]
        assert len(programs) == 3 and max(grown) < 25, grown
        path.unlink()
        assert api.get(f"/executions/{row['id']}/logs/full").status_code == 404
