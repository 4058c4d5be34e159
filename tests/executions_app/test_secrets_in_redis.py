"""What Redis keeps on disk of instructions that have values of secrets in them."""

import subprocess

import pytest
from asgiref.sync import sync_to_async
from channels.layers import channel_layers, get_channel_layer
from quartzflow_agent.protocol import task_pb2

from executions_app.choices import ExecutionType
from executions_app.dispatch import fire, new_firing
from quartzflow import bridges, env
from quartzflow.run.programs import redis_program
from tasks_app.secret_actions import do_create_secret
from tests import people
from tests.services import wait_until

VALUE = "hunter2-hunter2"


@pytest.fixture
def data_dir(settings, tmp_path):
    """The data directory of an installation whose own redis-server runs, with the options of `make run`."""
    installation = env.load({"QF_DATA_DIR": str(tmp_path)})
    program = redis_program(installation)
    process = subprocess.Popen(program.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(program.ready, 10, "redis-server's socket")
    layers = {**settings.CHANNEL_LAYERS["default"]["CONFIG"], "hosts": [{"address": installation.redis_url}]}
    settings.CHANNEL_LAYERS = {"default": {**settings.CHANNEL_LAYERS["default"], "CONFIG": layers}}
    settings.QF_DATA_DIR = tmp_path
    channel_layers.backends.clear()
    yield tmp_path
    channel_layers.backends.clear()
    process.terminate()
    process.wait(10)


@pytest.mark.django_db(transaction=True)
async def test_no_value_is_readable_in_its_files_and_the_bridge_gets_it(data_dir):
    await sync_to_async(_fire)()
    kept = b"".join(path.read_bytes() for path in (data_dir / "redis").rglob("*") if path.is_file())
    assert bridges.channel_name(people.BRIDGE).encode() in kept  # it has been written
    assert VALUE.encode() not in kept
    layer = get_channel_layer()
    message = await layer.receive(bridges.channel_name(people.BRIDGE))
    while message["type"] != "dispatch":
        message = await layer.receive(bridges.channel_name(people.BRIDGE))
    ((client, data),) = bridges.instructions_of(message)
    assert client == "web-1"
    assert VALUE in str(task_pb2.TaskExecution.FromString(data).executor_config)
    await layer.close_pools()


def _fire():
    do_create_secret(people.admin(), {"name": "TOKEN", "value": VALUE})
    people.online_client()
    config = {"command": "date", "env": {"T": "{{ secrets.TOKEN }}"}}
    fire([new_firing(people.task(executor_config=config), ExecutionType.MANUAL)])
