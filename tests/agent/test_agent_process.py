"""The agent as a whole: how it gets in, and as a process of its own."""

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager

import psutil
import pytest
from quartzflow_agent.agent import Agent
from quartzflow_agent.config import ConfigError, read_secret, write_secret
from quartzflow_agent.lock import AlreadyRunning, running_pid
from quartzflow_agent.paths import Home
from quartzflow_agent.store import outbox

from tests.agent.running_agent import agent_in, joined, now, stored
from tests.agent.support import until

# --- admission ---


async def test_registers_with_a_token_once_and_with_its_own_credential_from_then_on(
    home, server, certificates
):
    config = joined(home, server, certificates)
    home.credential.unlink()
    write_secret(home.enrollment_token, "the token")
    async with agent_in(home, config):
        await until(lambda: server.peers)
        assert server.registrations[0].enrollment_token == "the token"
        await until(home.credential.exists)
        server.peers[0].close()
        await until(lambda: len(server.registrations) == 2)
    assert server.registrations[1].credential == read_secret(home.credential) == "credential of c1"
    assert not server.registrations[1].enrollment_token
    assert not home.enrollment_token.exists()
    assert home.credential.stat().st_mode & 0o777 == 0o600


async def test_without_any_admission_it_does_not_start(home, server, certificates):
    config = joined(home, server, certificates)
    home.credential.unlink()
    with pytest.raises(ConfigError, match="agent join"):
        Agent(home, config)


async def test_one_home_has_one_agent(agent, home, server, certificates):
    with pytest.raises(AlreadyRunning) as caught:
        Agent(home, joined(home, server, certificates))
    assert caught.value.pid == str(os.getpid())


async def test_says_how_it_is(agent, home, server):
    await until(lambda: home.status.exists() and json.loads(home.status.read_text())["connected"])
    said = json.loads(home.status.read_text())
    assert (said["client_id"], said["server"], said["group"]) == ("c1", server.address, "default")
    assert running_pid(home.lock) == os.getpid()


async def test_a_part_that_breaks_ends_the_agent_loudly(home, server, certificates, monkeypatch):
    agent = Agent(home, joined(home, server, certificates))

    async def broken():
        raise KeyError("a bug")

    monkeypatch.setattr(agent._views, "run", broken)
    with pytest.raises(KeyError, match="a bug"):
        await asyncio.wait_for(agent.run(), 10)
    assert running_pid(home.lock) is None


# --- a process of its own ---


@asynccontextmanager
async def process(home: Home):
    """`quicflow agent run`; ended if the test has not."""
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from quartzflow_agent.cli import main; main()",
        "agent",
        "run",
        env={**os.environ, "QUICFLOW_HOME": str(home.root)},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


def is_gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_killed_and_started_again_it_leaves_no_execution_open_and_no_process_behind(
    home, server, certificates
):
    joined(home, server, certificates)
    async with process(home) as first:
        await until(lambda: server.peers)
        server.peers[0].execute(
            now(number=1, config={"command": "trap '' HUP; sleep 60 & echo $$ $!; wait"}),
            now(number=2, task_id="2", config={"command": "sleep 60"}),
            now(number=3, task_id="2", config={"command": "echo waited"}),
        )
        server.peers[0].watch("exec_1")
        await until(lambda: any(p.output for p in server.progresses))
        await until(lambda: len({p.execution_id for p in server.progresses}) == 2)
        pids = [int(pid) for p in server.progresses if p.output for pid in p.output.split()]
        assert len(pids) == 2
        first.send_signal(signal.SIGKILL)
        await first.wait()
    server.peers.clear()
    assert not any(map(is_gone, pids))
    async with process(home) as second:
        await until(lambda: len(server.ended) == 3)
        assert server.ended == {"exec_1": "FAILURE", "exec_2": "FAILURE", "exec_3": "SUCCESS"}
        reported = [*server.results, *(record for sync in server.syncs for record in sync.records)]
        reasons = {record.execution_id: record.failure_reason for record in reported}
        assert reasons["exec_1"] == reasons["exec_2"] == "agent_restarted"
        await until(lambda: all(map(is_gone, pids)))
        await until(lambda: not stored(home, outbox.count_pending))
        second.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(second.wait(), 10) == 0


async def test_sigterm_waits_for_what_runs_and_says_goodbye(home, server, certificates):
    joined(home, server, certificates, stop_timeout=5.0)
    async with process(home) as started:
        await until(lambda: server.peers)
        server.peers[0].execute(now(config={"command": "umask; sleep 1; echo done"}))
        await until(lambda: server.progresses)
        started.send_signal(signal.SIGTERM)
        _, errors = await asyncio.wait_for(started.communicate(), 20)
    assert started.returncode == 0
    assert server.ended == {"exec_1": "SUCCESS"}
    umask = os.umask(0)
    os.umask(umask)
    # What tasks write is as private as the host's owner wants it, not as the agent's own files are.
    assert server.results[0].output == f"{umask:04o}\ndone\n"
    await until(lambda: server.closed)
    lines = errors.decode().splitlines()
    assert [line.split(" ")[2] for line in lines][-2:] == ["ended", "stopped"]
    assert all(line[:2] == "20" for line in lines), lines
    assert "secret" not in errors.decode()
    assert not home.status.exists()


async def test_a_second_signal_does_not_wait(home, server, certificates):
    joined(home, server, certificates, stop_timeout=60.0)
    async with process(home) as started:
        await until(lambda: server.peers)
        server.peers[0].execute(now(config={"command": "sleep 60"}))
        await until(lambda: server.progresses)
        started.send_signal(signal.SIGINT)
        await asyncio.sleep(0.3)
        assert started.returncode is None
        started.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(started.wait(), 15) == 0
    assert server.ended == {"exec_1": "FAILURE"}
    assert server.results[0].failure_reason == "agent_restarted"
