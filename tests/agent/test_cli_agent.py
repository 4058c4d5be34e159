"""The command `quicflow agent`, as its users see it."""

import asyncio
import json
import os
import subprocess
from types import SimpleNamespace

import pytest
from quartzflow_agent.config import AgentConfig, Endpoint, load, read_secret, save, write_secret
from quartzflow_agent.lock import Lock
from quartzflow_agent.store.database import open_database

from tests.agent.records import PROGRAM
from tests.services import free_port

# --- agent ---


def join_arguments(server, *more):
    return ["agent", "join", "--server", server.address, "--token", "the-token", *more]


@pytest.fixture
def quicflow_async(quicflow):
    """A command beside the event loop that serves it."""

    async def run(*arguments):
        return await asyncio.get_running_loop().run_in_executor(None, quicflow, *arguments)

    return run


async def test_join_registers_and_keeps_the_credential(server, certificates, home, quicflow_async):
    code, out, err = await quicflow_async(
        *join_arguments(
            server,
            "--ca-file",
            certificates.authority,
            "--client-id",
            "web-1",
            "--label",
            "dc=bj",
            "--label",
            "os=x=y",
        )
    )
    assert (code, err) == (0, "")
    assert f'Joined {server.address} as "web-1" in the group "default"' in out
    request = server.registrations[0]
    assert (request.client_id, request.enrollment_token, request.credential) == ("web-1", "the-token", "")
    assert dict(request.labels) == {"dc": "bj", "os": "x=y"}
    assert request.hostname
    config = load(home)
    assert (config.client_id, config.ca_file, config.labels) == (
        "web-1",
        certificates.authority,
        {"dc": "bj", "os": "x=y"},
    )
    assert read_secret(home.credential) == "credential of web-1"
    assert "the-token" not in home.config.read_text()


async def test_join_turns_to_the_next_server(server, certificates, home, quicflow_async):
    nobody = f"127.0.0.1:{free_port()}"
    code, out, _ = await quicflow_async(
        "agent", "join", "--server", f"{nobody},{server.address}", "--token", "t",
        "--ca-sha256", certificates.sha256.upper(), "--json",
    )  # fmt: skip
    assert code == 0
    assert json.loads(out)["server"] == server.address
    assert [str(endpoint) for endpoint in load(home).servers] == [nobody, server.address]


async def test_join_says_why_no_server_answers(certificates, home, quicflow_async):
    address = f"127.0.0.1:{free_port()}"
    code, _, err = await quicflow_async("agent", "join", "--server", address, "--token", "t")
    assert code == 1
    assert f"{address}: nobody listens on that UDP port" in err
    assert "--ca-file" in err
    assert not home.config.exists()
    assert not home.credential.exists()


async def test_join_says_the_way_out_when_it_is_refused(server, certificates, home, quicflow_async):
    for in_words in (True, False):
        server.refusal, server.refuses_in_words = ("bad_token", "used up"), in_words
        code, _, err = await quicflow_async(*join_arguments(server, "--ca-file", certificates.authority))
        assert code == 1
        assert "refuses this host" in err
        assert "used up" in err
    server.refuses_in_words = True
    code, _, err = await quicflow_async(*join_arguments(server, "--ca-file", certificates.authority))
    assert "new enrollment token" in err
    assert not home.credential.exists()


async def test_join_does_not_trust_a_stranger(server, home, quicflow_async):
    code, _, err = await quicflow_async(*join_arguments(server))
    assert code == 1
    assert "certificate" in err
    assert server.registrations == []


def test_join_later_writes_the_configuration_and_the_token(home, quicflow, certificates):
    arguments = ["agent", "join", "--server", "a:1", "--token", "t0k", "--client-id", "c1", "--later"]
    code, out, _ = quicflow(*arguments)
    assert code == 0
    assert str(home.config) in out
    assert read_secret(home.enrollment_token) == "t0k"
    assert home.enrollment_token.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--server", "a b", "--token", "t"], "no server address"),
        (["--server", "a", "--token", " "], ""),
        (["--server", "a", "--token", "t", "--label", "x"], "no label"),
        (["--server", "a", "--token", "t", "--client-id", "a b"], "cannot name a client"),
        (["--server", "a", "--token", "t", "--ca-file", "/no/ca.pem"], "no CA file"),
        (["--server", ",", "--token", "t"], "No server is configured"),
    ],
)
def test_join_refuses_what_cannot_work(home, quicflow, arguments, message):
    code, _, err = quicflow("agent", "join", *arguments)
    assert code == 1
    assert message in err
    assert not home.config.exists()


def test_join_takes_the_token_from_stdin(home):
    done = subprocess.run(
        [*PROGRAM, "agent", "join", "--server", "a:1", "--token", "-", "--client-id", "c", "--later"],
        input=b"from stdin\n",
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    assert read_secret(home.enrollment_token) == "from stdin"


def test_join_does_not_touch_a_host_that_has_joined_or_runs(home, quicflow):
    write_secret(home.credential, "old")
    arguments = ["agent", "join", "--server", "a:1", "--token", "t", "--later"]
    code, _, err = quicflow(*arguments)
    assert code == 1
    assert "--force" in err
    assert read_secret(home.credential) == "old"
    lock = Lock(home.lock)
    code, _, err = quicflow(*arguments, "--force")
    assert code == 1
    assert f"pid {os.getpid()}" in err
    lock.release()
    assert quicflow(*arguments, "--force")[0] == 0
    assert read_secret(home.credential) == ""


def test_status_of_an_agent_that_does_not_run(filled, quicflow):
    save(filled, AgentConfig([Endpoint("a.example", 8474)], "c1"))
    code, out, _ = quicflow("agent", "status")
    assert code == 3
    assert "Agent: not running" in out
    assert "Tasks: 4" in out
    assert "Not yet on the server: 290" in out
    code, out, _ = quicflow("agent", "status", "--json")
    found = json.loads(out)
    assert code == 3
    assert (found["running"], found["joined"], found["config_version"], found["agent"]) == (
        False,
        False,
        12,
        None,
    )


def test_what_the_server_lacks_is_what_the_store_says(filled, quicflow):
    save(filled, AgentConfig([Endpoint("a.example", 8474)], "c1"))
    lock = Lock(filled.lock)
    filled.status.write_text(json.dumps({"connected": True, "unacknowledged": 7}))  # as it was a while ago
    found = json.loads(quicflow("agent", "status", "--json")[1])
    lock.release()
    assert (found["unacknowledged"], found["agent"]) == (290, {"connected": True, "unacknowledged": 290})


@pytest.mark.parametrize(("connected", "code"), [(True, 0), (False, 1)])
def test_status_of_an_agent_that_runs(home, quicflow, connected, code):
    save(home, AgentConfig([Endpoint("a.example", 8474)], "c1"))
    write_secret(home.credential, "x")
    lock = Lock(home.lock)
    home.status.write_text(
        json.dumps(
            {
                "connected": connected,
                "server": "a.example:8474",
                "problem": "nobody listens",
                "group": "default",
                "local_firing": not connected,
                "clock_offset_ms": 7,
            }
        )
    )
    found, out, _ = quicflow("agent", "status")
    assert found == code
    assert f"Agent: running, pid {os.getpid()}" in out
    assert ("Connection: a.example:8474" if connected else "Connection: nobody listens") in out
    assert ("Fired by: the server" if connected else "Fired by: this agent") in out
    lock.release()


def test_status_tells_of_a_full_disk_which_the_agent_could_not_write_down(filled, quicflow, monkeypatch):
    save(filled, AgentConfig([Endpoint("a.example", 8474)], "c1"))
    assert "Disk space" not in quicflow("agent", "status")[1]
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=0))
    out = quicflow("agent", "status")[1]
    assert f"Disk space: 0 MB free at {filled.root}\n  → Make room: without it the agent cannot record" in out
    assert json.loads(quicflow("agent", "status", "--json")[1])["disk"]["ok"] is False


def test_status_and_run_before_joining_say_what_to_do(home, quicflow):
    for command in ("status", "run"):
        code, _, err = quicflow("agent", command)
        assert code == 1
        assert "quicflow agent join" in err


def test_run_refuses_a_second_agent_and_a_wrong_level(home, quicflow):
    save(home, AgentConfig([Endpoint("a.example", 8474)], "c1"))
    write_secret(home.credential, "x")
    lock = Lock(home.lock)
    done = subprocess.run([*PROGRAM, "agent", "run"], capture_output=True, check=False)
    assert done.returncode == 1
    assert f"pid {os.getpid()}" in done.stderr.decode()
    lock.release()
    code, _, err = quicflow("agent", "run", "--log-level", "loud")
    assert (code, err) == (1, "The log level is one of DEBUG, INFO, WARNING and ERROR.\n")


def test_run_says_when_its_records_cannot_be_opened(home):
    save(home, AgentConfig([Endpoint("a.example", 8474)], "c1"))
    write_secret(home.credential, "x")
    db = open_database(home.store)
    db.execute("PRAGMA user_version = 99")
    db.close()
    done = subprocess.run([*PROGRAM, "agent", "run"], capture_output=True, check=False)
    assert done.returncode == 1
    assert "The record of executions cannot be opened" in done.stderr.decode()


def test_run_does_not_go_on_without_its_policy(home):
    save(home, AgentConfig([Endpoint("a.example", 8474)], "c1"))
    write_secret(home.credential, "x")
    home.policy.write_text("commandos = []")
    done = subprocess.run([*PROGRAM, "agent", "run"], capture_output=True, check=False)
    assert done.returncode == 1
    assert f"The policy {home.policy} cannot be used: unknown rule: commandos" in done.stderr.decode()


def test_version_and_help(quicflow):
    code, out, _ = quicflow("--version")
    assert (code, out) == (0, "quicflow 0.1.0\n")
    for arguments in (["--help"], ["agent", "--help"], ["task", "--help"], ["agent", "join", "--help"]):
        code, out, _ = quicflow(*arguments)
        assert code == 0
        assert "Usage" in out
