"""The live socket: permission per object, a snapshot first, then what changes."""

import asyncio
import threading
import time

import pytest
from asgiref.sync import sync_to_async
from channels.layers import channel_layers, get_channel_layer
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import AnonymousUser
from django.utils import translation
from guardian.shortcuts import assign_perm
from quartzflow_agent.protocol import task_pb2 as pb

from executions_app import events
from executions_app.consumers import CLOSE_UNAUTHENTICATED, FEW, LiveConsumer
from executions_app.dispatch import Firing, fire
from executions_app.events import Publisher, publisher
from executions_app.ingest import Progress, ingest
from quartzflow import bridges
from quartzflow.execution_status import ExecutionStatus
from quartzflow.preferences import do_save_preferences
from tasks_app.models import Task
from tests import people

pytestmark = pytest.mark.django_db(transaction=True)
NOON = people.at(2026, 3, 1, 12, 0)


@pytest.fixture(autouse=True)
def _fresh_layer():
    """A channel layer keeps connections of the event loop it was used in."""
    channel_layers.backends.clear()
    yield
    publisher.flush()
    channel_layers.backends.clear()


async def connect(user):
    socket = WebsocketCommunicator(LiveConsumer.as_asgi(), "/ws/live/")
    socket.scope["user"] = user
    connected, code = await socket.connect()
    if connected:
        return socket
    await socket.disconnect()
    return code


@sync_to_async
def fired(**fields):
    people.online_client()
    return fire([Firing(people.task(**fields).pk, NOON)])[0]


def running(execution, output="", offset=0):
    return Progress(
        "web-1",
        pb.TaskProgress(
            execution_id=execution.execution_id,
            status=pb.RUNNING,
            started_at=1,
            output=output,
            output_offset=offset,
        ),
    )


async def test_nobody_watches_without_an_account():
    assert await connect(AnonymousUser()) == CLOSE_UNAUTHENTICATED


async def test_a_snapshot_then_changes():
    execution = await fired()
    socket = await connect(await sync_to_async(people.admin)())
    await socket.send_json_to({"action": "subscribe", "executions": [execution.pk]})
    snapshot = await socket.receive_json_from()
    assert (snapshot["event"], snapshot["executions"][0]["status_name"]) == ("snapshot", "PENDING")
    with translation.override("zh-hans"):
        assert snapshot["executions"][0]["status_label"] == str(ExecutionStatus.PENDING.label)
    await sync_to_async(ingest)([running(execution)])
    # On a slow machine the event of its creation may still be on its way.
    seen = {"PENDING"}
    while "RUNNING" not in seen:
        event = await socket.receive_json_from(timeout=3)
        assert event["event"] == "executions"
        seen.add(event["items"][0]["status_name"])
    assert seen == {"PENDING", "RUNNING"}
    await socket.disconnect()


async def test_a_feed_and_a_task_bring_new_executions():
    task = await sync_to_async(people.task)()
    await sync_to_async(people.online_client)()
    for day, subscription in enumerate(({"feed": True}, {"tasks": [task.pk]}), start=1):
        socket = await connect(await sync_to_async(people.admin)())
        await socket.send_json_to({"action": "subscribe", **subscription})
        assert (await socket.receive_json_from())["event"] == "snapshot"
        await sync_to_async(fire)([Firing(task.pk, NOON.replace(day=day))])
        event = await socket.receive_json_from(timeout=3)
        assert event["items"][0]["task_id"] == task.pk
        await socket.disconnect()


async def test_the_log_comes_from_its_beginning_and_grows():
    execution = await fired()
    await sync_to_async(ingest)([running(execution, "one\n")])
    socket = await connect(await sync_to_async(people.admin)())
    await socket.send_json_to({"action": "subscribe", "log": execution.pk})
    await socket.receive_json_from()
    first = await socket.receive_json_from(timeout=3)
    assert (first["event"], first["text"]) == ("output", "one\n")
    asked = await get_channel_layer().receive(bridges.channel_name(people.BRIDGE))
    while asked["type"] != "log_watch":
        asked = await get_channel_layer().receive(bridges.channel_name(people.BRIDGE))
    assert (asked["execution_id"], asked["watching"]) == (execution.execution_id, True)
    await sync_to_async(ingest)([running(execution, "two\n", 4)])
    events = [await socket.receive_json_from(timeout=3)]
    while events[-1].get("offset") != 4:
        events.append(await socket.receive_json_from(timeout=3))
    assert events[-1]["text"] == "two\n"
    await socket.disconnect()


async def test_a_stranger_is_told_nothing():
    execution = await fired()
    stranger = await sync_to_async(people.stranger)()
    socket = await connect(stranger)
    await socket.send_json_to(
        {
            "action": "subscribe",
            "executions": [execution.pk],
            "tasks": [execution.task_id],
            "feed": True,
            "log": execution.pk,
        }
    )
    assert (await socket.receive_json_from())["executions"] == []
    assert (await socket.receive_json_from())["event"] == "denied"
    await sync_to_async(ingest)([running(execution, "secret")])
    await sync_to_async(publisher.flush)()
    await asyncio.sleep(0.1)
    assert await socket.receive_nothing()
    await socket.disconnect()


async def test_seeing_a_task_is_not_reading_its_logs():
    execution = await fired()
    viewer = await sync_to_async(people.stranger)("viewer")
    task = await Task.objects.aget(pk=execution.task_id)
    await sync_to_async(assign_perm)("tasks_app.view_task", viewer, task)
    socket = await connect(viewer)
    await socket.send_json_to({"action": "subscribe", "log": execution.pk})
    assert (await socket.receive_json_from())["event"] == "snapshot"
    assert await socket.receive_json_from() == {"event": "denied", "what": [f"log {execution.pk}"]}
    await socket.disconnect()


async def test_a_list_of_many_tasks_takes_one_group_and_is_told_of_its_own_alone(monkeypatch):
    tasks = [await sync_to_async(people.task)(f"job {n}") for n in range(FEW + 2)]
    *seen, hidden = tasks
    await sync_to_async(people.online_client)()
    viewer = await sync_to_async(people.stranger)("viewer")
    for task in seen:
        await sync_to_async(assign_perm)("tasks_app.view_task", viewer, task)
    layer, joined = get_channel_layer(), []
    add = layer.group_add

    async def note(group, channel):
        joined.append(group)
        await add(group, channel)

    monkeypatch.setattr(layer, "group_add", note)
    socket = await connect(viewer)
    await socket.send_json_to({"action": "subscribe", "tasks": [task.pk for task in tasks]})
    assert (await socket.receive_json_from())["event"] == "snapshot"
    assert await socket.receive_json_from() == {"event": "denied", "what": [hidden.pk]}
    assert joined == ["feed"]
    await sync_to_async(fire)([Firing(hidden.pk, NOON), Firing(seen[3].pk, NOON)])
    event = await socket.receive_json_from(timeout=3)
    assert [row["task_id"] for row in event["items"]] == [seen[3].pk]
    # Few again: their own groups take the feed's place.
    await socket.send_json_to({"action": "unsubscribe", "tasks": [task.pk for task in seen[2:]]})
    await sync_to_async(publisher.flush)()
    while len(joined) < 3:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert sorted(joined[1:]) == sorted(f"task.{task.pk}" for task in seen[:2])
    await sync_to_async(fire)([Firing(task.pk, NOON.replace(day=2)) for task in (hidden, seen[3], seen[0])])
    event = await socket.receive_json_from(timeout=3)
    assert [row["task_id"] for row in event["items"]] == [seen[0].pk]
    await socket.disconnect()


def test_news_do_not_overtake_each_other(monkeypatch):
    """The first message takes long to send; what comes meanwhile waits for it."""
    publisher, sent, entered, go = Publisher(), [], threading.Event(), threading.Event()

    def send(rows, outputs, hosts):
        entered.set()
        assert go.wait(5)
        sent.append(rows[0]["status"])

    monkeypatch.setattr(events, "_send", send)
    publisher.executions([{"id": 1, "status": 2}])
    assert entered.wait(5)
    publisher.executions([{"id": 1, "status": 3}])
    second = threading.Thread(target=publisher.flush)
    second.start()
    time.sleep(0.1)
    go.set()
    second.join(5)
    deadline = time.monotonic() + 5
    while len(sent) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sent == [2, 3]


async def test_each_socket_is_told_in_its_own_language():
    execution = await fired()
    sockets = {}
    for language in ("zh-hans", "en"):
        user = await sync_to_async(people.admin)(f"admin {language}")
        await sync_to_async(do_save_preferences)(user, {"language": language})
        sockets[language] = await connect(user)
        await sockets[language].send_json_to({"action": "subscribe", "feed": True})
        await sockets[language].receive_json_from()
    await sync_to_async(ingest)([running(execution)])
    for language, socket in sockets.items():
        label = ""
        with translation.override(language):
            while label != str(ExecutionStatus.RUNNING.label):
                label = (await socket.receive_json_from(timeout=3))["items"][0]["status_label"]
        await socket.disconnect()


async def test_nonsense_is_answered_and_does_no_harm():
    socket = await connect(await sync_to_async(people.admin)())
    for message in (
        {"action": "x"},
        [],
        {"action": "subscribe", "executions": "1", "tasks": [None, "x"], "log": "y"},
    ):
        await socket.send_json_to(message)
        assert (await socket.receive_json_from())["event"] in ("error", "snapshot")
    await socket.disconnect()


async def test_that_hosts_come_and_go_is_told_without_their_names():
    socket = await connect(await sync_to_async(people.stranger)())
    await socket.send_json_to({"action": "subscribe", "hosts": True})
    assert (await socket.receive_json_from())["event"] == "snapshot"
    publisher.hosts()
    publisher.hosts()
    await sync_to_async(publisher.flush)()
    assert await socket.receive_json_from() == {"event": "hosts"}
    # A page that was made just before it happened is told when it asks.
    later = await connect(await sync_to_async(people.stranger)("later"))
    await later.send_json_to({"action": "subscribe", "hosts": True})
    assert [(await later.receive_json_from())["event"] for _ in range(2)] == ["snapshot", "hosts"]
    await later.disconnect()
    await socket.send_json_to({"action": "unsubscribe", "hosts": True})
    await asyncio.sleep(0.1)
    publisher.hosts()
    await sync_to_async(publisher.flush)()
    assert await socket.receive_nothing()
    await socket.disconnect()
