"""Quic-flow clients over real QUIC, played byte by byte: what they run."""

import asyncio
import json
import subprocess
import time

import pytest
from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.protocol.messages import now_ms

from quic_bridge import legacy_commands as commands
from quic_bridge import server
from quic_bridge.domain import Rejected

from .agents import eventually
from .conftest import running
from .legacy_client import PONG, ack, instruction, legacy_client, ping, results


async def test_a_command_runs_and_its_answer_becomes_the_result(client, legacy_bridge, domain):
    await client.arrive("host-1")
    config = {"command": "echo $A $QF_PARAM_WHO", "work_dir": "/tmp", "env": '{"A": "it\'s $HOME"}'}
    item = instruction(executor_config=config, params={"who": 'a "b" `c`\n$(d)'}, timeout=1000, attempt=2)
    await legacy_bridge.commands.dispatch([("host-1", item)])
    stream_id, stream, msg_id, command = await client.command()
    assert command["command_type"] == "exec_shell"
    assert command["payload"].keys() == {"command", "timeout", "work_dir"}
    assert command["payload"]["timeout"] == 300
    text = command["payload"]["command"]
    process = await asyncio.create_subprocess_exec("sh", "-c", text, stdout=subprocess.PIPE)
    printed, _ = await process.communicate()
    assert printed == b'it\'s $HOME a "b" `c` $(d)\n'
    client.answer(stream_id, msg_id, stdout="out\n", stderr="err\n")
    await stream.end()
    await eventually(lambda: results(domain))
    (result,) = results(domain)
    assert result.status == task_pb2.SUCCESS
    assert (result.output, result.error, result.attempt) == ("out\nerr\n", "err\n", 2)
    assert result.has_exit_code
    assert domain.begun == [("host-1", "e1", 2)]


async def test_it_is_held_until_its_time(client, legacy_bridge, domain):
    await client.arrive("host-1")
    at = now_ms() + 700
    later = instruction("later", scheduled_time=at - 200, delay_ms=200)
    for _ in range(3):  # the sweep sends it again and again meanwhile
        await legacy_bridge.commands.dispatch([("host-1", later)])
    await client.command()
    assert 0 <= now_ms() - at < 250
    await legacy_bridge.commands.dispatch([("host-1", later)])
    await asyncio.sleep(0.1)
    assert client.opened.empty()
    assert len(domain.begun) == 1


@pytest.mark.parametrize("by", ["cancel", "table"])
async def test_what_is_cancelled_before_its_time_does_not_run(client, legacy_bridge, domain, by):
    await client.arrive("host-1")
    await legacy_bridge.commands.dispatch([("host-1", instruction(scheduled_time=now_ms() + 200))])
    if by == "cancel":
        await legacy_bridge.commands.cancel([("host-1", "e1", "cancelled_by_user")])
    else:
        domain.cancelled.add("e1")
    await asyncio.sleep(0.4)
    assert client.opened.empty()
    assert len(domain.begun) == (by == "table")


@pytest.mark.parametrize(
    ("answer", "status", "reason", "error"),
    [
        ({"error": "processing timeout", "status": 2}, task_pb2.TIMEOUT, "timeout", "processing timeout"),
        ({"status": 3}, task_pb2.TIMEOUT, "timeout", "the client ran out of time"),
        ({"error": "unknown command", "status": 2}, task_pb2.FAILURE, "executor_error", "unknown command"),
        ({"result": b"\xff"}, task_pb2.FAILURE, "executor_error", "the client's answer cannot be read"),
        ({"result": b"[]"}, task_pb2.FAILURE, "executor_error", "the client's answer cannot be read"),
        ({"result": b'{"success": "yes"}'}, task_pb2.FAILURE, "executor_error", ""),
        ({"result": b'{"success": false, "exit_code": 3, "stderr": "no", "message": "m"}'},
         task_pb2.FAILURE, "exit_code", "no"),
        ({"result": b'{"success": false, "exit_code": -1, "message": "m"}'}, task_pb2.FAILURE, "exit_code", "m"),
    ],
)  # fmt: skip
async def test_other_ends(client, legacy_bridge, domain, answer, status, reason, error):
    await client.arrive("host-1")
    await legacy_bridge.commands.dispatch([("host-1", instruction())])
    stream_id, _, msg_id, _ = await client.command()
    client.write(stream_id, ack(msg_id, **answer), end=True)
    await eventually(lambda: results(domain))
    (result,) = results(domain)
    assert (result.status, result.failure_reason, result.error) == (status, reason, error)


async def test_a_stream_that_ends_without_an_answer_is_a_failure(client, legacy_bridge, domain):
    await client.arrive("host-1")
    await legacy_bridge.commands.dispatch(
        [("host-1", instruction("e1")), ("host-1", instruction("e2", task_id="8"))]
    )
    first, _, _, _ = await client.command()
    second, _, _, _ = await client.command()
    client.write(first, b"", end=True)
    client._quic.reset_stream(second, 1)
    client.transmit()
    await eventually(lambda: len(results(domain)) == 2)
    assert {r.failure_reason for r in results(domain)} == {"executor_error"}
    assert {"without an answer" in r.error or "gave up" in r.error for r in results(domain)} == {True}
    assert (await client.open(ping("host-1")).frame())[0] == PONG


async def test_a_client_that_reads_no_further_may_still_answer(client, legacy_bridge, domain):
    await client.arrive("host-1")
    await legacy_bridge.commands.dispatch([("host-1", instruction())])
    stream_id, _, msg_id, _ = await client.command()
    client._quic.stop_stream(stream_id, 0)
    client.transmit()
    client.answer(stream_id, msg_id)
    await eventually(lambda: results(domain))
    assert results(domain)[0].status == task_pb2.SUCCESS
    assert (await client.open(ping("host-1")).frame())[0] == PONG


async def test_the_answer_to_another_command_closes_the_session(client, legacy_bridge):
    await client.arrive("host-1")
    await legacy_bridge.commands.dispatch([("host-1", instruction())])
    stream_id, _, _, _ = await client.command()
    client.answer(stream_id, "e9")
    assert (await client.closed())[0] == 1


async def test_an_answer_that_never_comes_is_a_timeout(client, legacy_bridge, domain, monkeypatch):
    monkeypatch.setattr("quic_bridge.legacy_session.ANSWER_GRACE", -29.5)
    await client.arrive("host-1")
    await legacy_bridge.commands.dispatch([("host-1", instruction(timeout=10))])
    stream_id, stream, msg_id, _ = await client.command()
    await stream.end()
    await eventually(lambda: results(domain))
    assert results(domain)[0].status == task_pb2.TIMEOUT
    client.answer(stream_id, msg_id)  # too late
    assert (await client.open(ping("host-1")).frame())[0] == PONG
    assert len(results(domain)) == 1


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"executor_type": task_pb2.HTTP}, "a quic-flow client runs shell tasks only"),
        ({"executor_type": task_pb2.PLUGIN}, "a quic-flow client runs shell tasks only"),
        ({"executor_config": {"command": "x", "run_as": "root"}}, "a quic-flow client has no run_as"),
        ({"executor_config": {"command": "x", "interpreter": "bash"}}, "with sh, not with bash"),
        ({"executor_config": {"command": "#!/usr/bin/python3\n"}}, "whatever their first line says"),
        ({"executor_config": {"command": " "}}, "command is empty"),
        ({"executor_config": {"command": "x", "env": "[]"}}, "env must be"),
        ({"executor_config": {"command": "x", "env": '{"a;b": ""}'}}, "no name for an environment"),
        ({"params": {"a b": ""}}, "no name for an environment"),
        ({"params": {"a": "\0"}}, "must not contain NUL"),
        ({"params": {"a": "x" * 11_000_000}}, "frame of"),
    ],
)
async def test_what_it_cannot_run_as_meant_is_refused(client, legacy_bridge, domain, fields, reason):
    await client.arrive("host-1")
    await legacy_bridge.commands.dispatch([("host-1", instruction(**fields))])
    await eventually(lambda: domain.reports)
    (report,) = domain.reports
    assert isinstance(report, Rejected)
    assert reason in report.error
    assert domain.begun == []


async def test_a_task_runs_as_often_at_once_as_it_may(client, legacy_bridge, domain):
    await client.arrive("host-1")
    await legacy_bridge.commands.dispatch([("host-1", instruction(name)) for name in ("e1", "e2")])
    stream_id, _, msg_id, _ = await client.command()
    await asyncio.sleep(0.1)
    assert client.opened.empty()
    client.answer(stream_id, msg_id)
    _, _, second, _ = await client.command()
    assert {msg_id, second} == {"e1", "e2"}


async def test_one_too_many_is_skipped_where_the_task_says_so(client, legacy_bridge, domain):
    await client.arrive("host-1")
    items = [instruction(name, concurrency_policy="skip") for name in ("e1", "e2")]
    await legacy_bridge.commands.dispatch([("host-1", item) for item in items])
    await client.command()
    await eventually(lambda: results(domain))
    assert [(r.status, r.failure_reason) for r in results(domain)] == [(task_pb2.CANCELLED, "concurrency")]


async def test_one_that_is_not_approved_gets_no_work_and_must_come_again(client, legacy_bridge, domain):
    domain.unapproved.add("host-1")
    await client.arrive("host-1")
    await legacy_bridge.commands.dispatch([("host-1", instruction())])
    code, reason = await client.closed()
    assert (code, reason) == (5, "the approval has changed; connect again")
    assert domain.begun == []


async def test_a_stopping_bridge_waits_for_what_runs(pki, domain, redis_url):
    config = server.configuration(pki.certificate, pki.key, legacy=True)
    async with running(pki, domain, config=config) as bridge, legacy_client(bridge.port, pki.ca) as client:
        await client.arrive("host-1")
        await bridge.commands.dispatch([("host-1", instruction())])
        stream_id, _, msg_id, _ = await client.command()
        connection = bridge.registry.get("host-1")
        connection.session.go_away("the bridge is stopping", [], 0)
        connection.wake()
        await asyncio.sleep(0.1)
        assert not client.ended.done()
        client.answer(stream_id, msg_id)
        assert await client.closed() == (5, "the bridge is stopping")
        await eventually(lambda: results(domain))


def test_a_cut_stream_is_marked():
    body = {"success": True, "exit_code": 0, "stdout": "é" * 6000, "stderr": "x"}
    message = commands.pb.AckMessage(msg_id="e1", status=1, result=json.dumps(body).encode())
    result = commands.read_answer(instruction(), now_ms(), message)
    assert result.truncated
    assert len(result.output.encode()) <= 10 * 1024
    body = {"success": False, "exit_code": 1, "stdout": "\ud800", "stderr": ""}
    message = commands.pb.AckMessage(msg_id="e1", status=1, result=json.dumps(body).encode())
    result = commands.read_answer(instruction(timeout=10), int(time.time() * 1000) - 11_000, message)
    assert (result.output, result.status) == ("?", task_pb2.TIMEOUT)


def test_placeholders_are_filled_in_before_it_is_sent():
    config = {
        "command": 'printf \'%s.\' {{ params.day }} "at {{ params.hour }}" "$GIVEN"',
        "env": '{"GIVEN": "on {{ params.day }}"}',
        "parameters": '{"hour": "9", "day": "never"}',
    }
    item = instruction(executor_config=config, params={"Day": "$(exit 3)'\""})
    text = commands.shell_payload(item)["command"]
    printed = subprocess.run(["sh", "-c", text], capture_output=True, check=True)
    assert printed.stdout == b"$(exit 3)'\".at 9.on $(exit 3)'\"."


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"command": "echo {{ params.day }}"}, "is not given and has no default"),
        ({"command": "echo '{{ params.x }}'"}, "in single quotes"),
        ({"command": "true", "env": '{"A": "{{ secrets.A }}"}'}, "is not given"),
        ({"command": "true", "env": '{"A": "{{ params.x"}'}, "a placeholder is written"),
        ({"command": "true", "parameters": "[]"}, "parameters must be a JSON object of texts"),
    ],
)
def test_placeholders_that_cannot_be_filled_in_are_refused(config, message):
    with pytest.raises(commands.Unsupported, match=message):
        commands.check(instruction(executor_config=config, params={"x": "1"}))
