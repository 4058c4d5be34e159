"""`manage.py quic_bridge`: a process of its own, with the real domain, a real redis and real QUIC."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from contextlib import AsyncExitStack, contextmanager

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection
from quartzflow_agent.protocol import agent_pb2, messages, task_pb2
from quartzflow_agent.protocol import backbone_pb2 as pb
from quartzflow_agent.protocol.constants import CLOSE_REVOKED

from executions_app.choices import ExecutionType
from executions_app.dispatch import fire, new_firing
from executions_app.models import Execution
from groups_app.actions import do_create_enrollment_token, do_revoke_client, do_rotate_client
from groups_app.models import Bridge, Client
from quartzflow.execution_status import ExecutionStatus
from quic_bridge import udp
from quic_bridge.domain import Unavailable
from tests import people, services

from .agents import agent


@pytest.fixture
def data_dir(pki, tmp_path):
    """A data directory that has the server's certificate only."""
    directory = tmp_path / "data"
    (directory / "pki").mkdir(parents=True)
    shutil.copy(pki.certificate, directory / "pki")
    shutil.copy(pki.key, directory / "pki")
    return directory


@contextmanager
def process(data_dir, redis_url, *options):
    """The command as the supervisor runs it, on this test's database."""
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("QF_")},
        "DJANGO_SETTINGS_MODULE": "quartzflow.settings",
        "QF_DATA_DIR": str(data_dir),
        "QF_SECRET_KEY": settings.SECRET_KEY,
        "DATABASE_URL": f"sqlite:///{connection.settings_dict['NAME']}",
        "REDIS_URL": redis_url,
    }
    command = [sys.executable, "manage.py", "quic_bridge", "--host", "127.0.0.1", "--port", "0", *options]
    log = data_dir / "bridge.log"
    with log.open("wb") as output:
        running = subprocess.Popen(command, cwd=services.ROOT, env=env, stdout=output, stderr=output)
    try:
        services.wait_until(lambda: Bridge.objects.exists() or running.poll() is not None, 20, log.read_text)
        yield running, log
    finally:
        running.kill()
        running.wait()


@pytest.mark.django_db(transaction=True)
def test_a_firing_goes_to_an_agent_and_its_result_into_the_database(pki, data_dir, redis_url):
    _, token = do_create_enrollment_token(None, people.group())
    with process(data_dir, redis_url, "--bridge-id", "b1") as (running, log), asyncio.Runner() as loop:
        port = int(Bridge.objects.get(bridge_id="b1").endpoint.rpartition(":")[2])
        stack = AsyncExitStack()
        a = loop.run(stack.enter_async_context(agent(port, pki.ca)))
        response = loop.run(a.register("web-1", credential="", enrollment_token=token, hostname="web"))
        assert response.accepted, log.read_text()
        assert response.credential
        client = Client.objects.get(client_id="web-1")
        assert (client.is_online, client.bridge_id, client.ip) == (True, "b1", "127.0.0.1")

        loop.run(a.pull())
        task = people.task()
        envelope, push = loop.run(a.next_data(task_pb2.TaskConfigPush))
        assert [t.name for t in push.tasks] == [task.name]
        a.send(messages.ack(envelope.msg_id))
        fire([new_firing(task, ExecutionType.MANUAL)])
        envelope, instruction = loop.run(a.next_data(task_pb2.TaskExecution))
        assert instruction.executor_config["command"] == "date"
        a.send(messages.ack(envelope.msg_id))
        progress = task_pb2.TaskProgress(
            execution_id=instruction.execution_id, status=task_pb2.RUNNING, started_at=messages.now_ms()
        )
        a.say(pb.MESSAGE_TYPE_TASK_PROGRESS, progress)
        a.result(instruction.execution_id, output="Thu", started_at=messages.now_ms(), has_exit_code=True)
        assert loop.run(a.next_ack()).status == pb.ACK_STATUS_SUCCESS
        execution = Execution.objects.get()
        assert execution.status == ExecutionStatus.SUCCESS
        assert execution.accepted_at is not None
        assert execution.log.output == "Thu"

        running.send_signal(signal.SIGTERM)
        _, away = loop.run(a.next_data(agent_pb2.GoAway))
        assert away.reason == "the bridge is stopping"
        loop.run(stack.aclose())
        assert running.wait(10) == 0, log.read_text()
    assert not Bridge.objects.exists()
    assert not Client.objects.get().is_online
    assert "Traceback" not in log.read_text()


@pytest.mark.django_db(transaction=True)
def test_a_credential_is_rotated_and_revoked_over_the_open_session(pki, data_dir, redis_url):
    _, token = do_create_enrollment_token(None, people.group())
    with process(data_dir, redis_url) as (_, log), asyncio.Runner() as loop:
        port = int(Bridge.objects.get().endpoint.rpartition(":")[2])
        stack = AsyncExitStack()
        a = loop.run(stack.enter_async_context(agent(port, pki.ca)))
        old = loop.run(a.register("web-1", credential="", enrollment_token=token)).credential
        do_rotate_client(people.admin(), Client.objects.get())
        _, away = loop.run(a.next_data(agent_pb2.GoAway))
        assert away.reason == "new credential"
        b = loop.run(stack.enter_async_context(agent(port, pki.ca)))
        new = loop.run(b.register("web-1", credential=old)).credential
        assert new not in ("", old), log.read_text()
        c = loop.run(stack.enter_async_context(agent(port, pki.ca)))
        assert loop.run(c.register("web-1", credential=new)).accepted
        d = loop.run(stack.enter_async_context(agent(port, pki.ca)))
        assert loop.run(d.register("web-1", credential=old)).code == "bad_credential"

        do_revoke_client(people.admin(), Client.objects.get())
        assert loop.run(c.closed()) == (CLOSE_REVOKED, "revoked")
        e = loop.run(stack.enter_async_context(agent(port, pki.ca)))
        assert not loop.run(e.register("web-1", credential=new)).accepted
        loop.run(stack.aclose())
    assert new not in log.read_text() and old not in log.read_text()


def test_without_certificates_it_says_how_to_make_them(monkeypatch, tmp_path):
    monkeypatch.setattr(settings, "QF_DATA_DIR", tmp_path)
    with pytest.raises(
        CommandError, match=r"server\.pem is missing: `manage.py setup` makes the certificates"
    ):
        call_command("quic_bridge", port=0)


def test_a_port_in_use_is_named(monkeypatch, data_dir):
    monkeypatch.setattr(settings, "QF_DATA_DIR", data_dir)
    with udp.bind("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(CommandError, match=f"UDP port {port}: the port is in use"):
            call_command("quic_bridge", host="127.0.0.1", port=port)


@pytest.mark.parametrize("port", ["x", "-1", "65536"])
def test_a_port_that_is_none_is_refused(port):
    with pytest.raises(CommandError, match="--port"):
        call_command("quic_bridge", f"--port={port}")


def test_a_key_that_is_none_is_refused(monkeypatch, data_dir):
    (data_dir / "pki" / "server.key").write_text("no key")
    monkeypatch.setattr(settings, "QF_DATA_DIR", data_dir)
    with pytest.raises(CommandError, match=r"cannot use .*server\.pem and .*server\.key: "):
        call_command("quic_bridge", port=0)


def test_without_a_database_it_says_so(monkeypatch, data_dir, redis_url):
    def away(bridge, stop):
        raise Unavailable("no route")

    monkeypatch.setattr(settings, "QF_DATA_DIR", data_dir)
    monkeypatch.setattr("quic_bridge.bridge.Bridge.run", away)
    with pytest.raises(CommandError, match="the database is not available: no route"):
        call_command("quic_bridge", host="127.0.0.1", port=0)
