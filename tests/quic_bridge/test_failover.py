"""Two bridges and the real agent: nothing is lost when a bridge stops, or dies."""

import os
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from executions_app.choices import ExecutionType
from executions_app.dispatch import fire, new_firing
from executions_app.models import Execution
from groups_app.actions import do_create_enrollment_token
from groups_app.models import Bridge, Client
from quartzflow.execution_status import ExecutionStatus
from tests import people, services

from .test_command import data_dir, process  # noqa: F401

QUICFLOW = Path(sys.executable).parent / "quicflow"


def on(bridge_id):
    return Client.objects.filter(client_id="web-1", bridge_id=bridge_id, status=1).exists()


def runs_once(task, said):
    """Fire by hand; the execution succeeds."""
    (execution,) = fire([new_firing(task, ExecutionType.MANUAL)])

    def done():
        return Execution.objects.get(pk=execution.pk).status == ExecutionStatus.SUCCESS

    services.wait_until(done, 40, said)
    assert Execution.objects.get(pk=execution.pk).attempts.count() == 1


@pytest.mark.django_db(transaction=True)
def test_an_agent_and_its_work_move_to_the_other_bridge(pki, data_dir, tmp_path, redis_url):  # noqa: F811
    _, token = do_create_enrollment_token(None, people.group())
    task = people.task(executor_config={"command": "true"}, cron_expr="0 0 1 1 *")
    ports = [services.free_port(socket.SOCK_DGRAM) for _ in range(2)]
    (tmp_path / "ca.pem").write_bytes(pki.ca)
    environ = {**os.environ, "QUICFLOW_HOME": str(tmp_path / "agent")}

    with ExitStack() as running:

        def bridge(number):
            directory = tmp_path / f"data{number}"
            if not directory.exists():
                shutil.copytree(data_dir, directory)
            options = ("--bridge-id", f"b{number}", "--port", str(ports[number]))
            found = running.enter_context(process(directory, redis_url, *options))
            services.wait_until(
                lambda: Bridge.objects.filter(bridge_id=f"b{number}").exists(), 20, found[1].read_text
            )
            return found

        (first, first_log), (second, _) = bridge(0), bridge(1)
        servers = ",".join(f"127.0.0.1:{port}" for port in ports)
        join = ["agent", "join", "--server", servers, "--token", token, "--client-id", "web-1", "--later"]
        done = subprocess.run(
            [QUICFLOW, *join, "--ca-file", tmp_path / "ca.pem"], env=environ, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        log = tmp_path / "agent.log"
        with log.open("wb") as output:
            agent = subprocess.Popen([QUICFLOW, "agent", "run"], env=environ, stdout=output, stderr=output)
        running.callback(agent.wait)
        running.callback(agent.terminate)
        services.wait_until(lambda: on("b0"), 20, log.read_text)
        runs_once(task, log.read_text)

        # A bridge that stops sends its agent to the other one.
        first.terminate()
        assert first.wait(20) == 0, first_log.read_text()
        services.wait_until(lambda: on("b1"), 20, log.read_text)
        runs_once(task, log.read_text)

        # One that dies: what is fired before anybody knows is delivered by the bridge that the agent finds.
        bridge(0)
        second.kill()
        second.wait()
        runs_once(task, log.read_text)
        assert on("b0")
        assert list(Bridge.objects.exclude(bridge_id="b1").values_list("bridge_id", flat=True)) == ["b0"]
