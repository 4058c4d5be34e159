"""quicflow agent leave and install-service, and the service's talk with systemd."""

import asyncio
import json
import os
import pwd
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from quartzflow_agent import systemd
from quartzflow_agent.cli import service
from quartzflow_agent.config import AgentConfig, Endpoint, save, write_secret
from quartzflow_agent.lock import Lock

from tests.agent.running_agent import agent_in, joined
from tests.agent.support import until

ME = pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture
def member(filled):
    save(filled, AgentConfig([Endpoint("a.example", 8474)], "c1", stop_timeout=30))
    write_secret(filled.credential, "x")
    filled.policy.write_text("")
    return filled


# --- leave ---


def test_leave_keeps_the_records(member, quicflow):
    code, out, _ = quicflow("agent", "leave", "--yes")
    assert code == 0
    assert "Deleted: credential, agent.toml" in out
    assert "on the server, too" in out
    assert not member.config.exists()
    assert not member.credential.exists()
    assert quicflow("task", "history", "--date", "2025-01-09")[0] == 0
    assert "nothing to delete" in quicflow("agent", "leave", "--yes")[1]


def test_leave_purges_what_is_its_own(member, quicflow):
    code, out, _ = quicflow("agent", "leave", "--yes", "--purge", "--json")
    assert code == 0
    assert json.loads(out)["unsent"] == 290
    assert [path.name for path in member.root.iterdir()] == ["policy.toml"]


def test_leave_asks(member, quicflow, monkeypatch):
    for answer, code in ((False, 1), (True, 0)):
        monkeypatch.setattr("typer.confirm", lambda text, answer=answer: answer)
        found, _, err = quicflow("agent", "leave")
        assert found == code
        assert "does not know 290 results" in err
        assert member.credential.exists() is not answer


def test_leave_waits_for_the_agent_to_stop(member, quicflow):
    lock = Lock(member.lock)
    code, _, err = quicflow("agent", "leave", "--yes")
    assert (code, f"pid {os.getpid()}" in err) == (1, True)
    lock.release()
    assert member.credential.exists()


def test_leave_with_damaged_records(member, quicflow):
    member.store.write_bytes(b"garbage" * 1000)
    assert quicflow("agent", "leave", "--yes")[0] == 0


def test_leave_says_what_it_could_not_delete(member, quicflow):
    member.credential.unlink()
    member.credential.mkdir()
    (member.credential / "x").mkdir()
    member.config.unlink()
    member.config.symlink_to("/etc/hostname")
    assert quicflow("agent", "leave", "--yes")[0] == 0
    assert Path("/etc/hostname").exists()


# --- install-service ---


def test_the_unit_is_shown_and_written(member, quicflow, tmp_path, monkeypatch):
    monkeypatch.setattr(service, "UNIT_DIRECTORY", tmp_path)
    code, text, _ = quicflow("agent", "install-service", "--dry-run", "--user", ME)
    assert code == 0
    assert list(tmp_path.glob("*.service")) == []
    assert f"User={ME}\n" in text
    assert f"Environment=QUICFLOW_HOME={member.root}\n" in text
    assert "quicflow agent run\n" in text
    assert "WatchdogSec=60\n" in text
    assert "TimeoutStopSec=60\n" in text  # 30 that tasks get, 15 to end them, 15 to report
    code, out, _ = quicflow("agent", "install-service")
    path = tmp_path / "quicflow-agent.service"
    assert path.read_text() == text
    assert path.stat().st_mode & 0o777 == 0o644
    assert "systemctl enable --now quicflow-agent.service" in out


def test_systemd_takes_the_unit(member, quicflow, tmp_path):
    analyze = shutil.which("systemd-analyze")
    assert analyze is not None or shutil.which("systemctl") is None
    text = quicflow("agent", "install-service", "--dry-run")[1]
    path = tmp_path / "quicflow-agent.service"
    path.write_text(text)
    if analyze is not None:
        done = subprocess.run(
            [analyze, "verify", "--man=no", path], capture_output=True, text=True, check=False
        )
        assert path.name not in done.stderr


def test_install_service_says_the_way_out(member, quicflow, tmp_path, monkeypatch):
    monkeypatch.setattr(service, "UNIT_DIRECTORY", tmp_path / "none")
    code, _, err = quicflow("agent", "install-service")
    assert (code, "--dry-run" in err) == (1, True)
    code, _, err = quicflow("agent", "install-service", "--user", "no-such-user")
    assert (code, "useradd" in err) == (1, True)
    other = next(account.pw_name for account in pwd.getpwall() if account.pw_uid != os.geteuid())
    code, _, err = quicflow("agent", "install-service", "--user", other)
    assert (code, f"chown -R {other}" in err) == (1, True)
    member.config.unlink()
    code, _, err = quicflow("agent", "install-service")
    assert (code, "quicflow agent join" in err) == (1, True)


@pytest.mark.parametrize(
    ("user", "capabilities"), [("root", "~CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_BOOT"), ("quicflow", "")]
)
def test_capabilities_are_those_that_the_account_can_use(user, capabilities):
    text = systemd.unit(user=user, home="/h", command=["/usr/bin/true"], stop_timeout=5)
    assert f"\nCapabilityBoundingSet={capabilities}\n" in text


def test_words_of_a_unit_are_taken_literally():
    text = systemd.unit(user="a", home='/a b%c"d', command=["/x y/quicflow", "$HOME"], stop_timeout=5)
    assert 'Environment="QUICFLOW_HOME=/a b%%c\\"d"' in text
    assert 'ExecStart="/x y/quicflow" $$HOME\n' in text


# --- sd_notify ---


@pytest.fixture
def manager(tmp_path, monkeypatch):
    """systemd's end of the socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield sock


def heard(sock):
    found = []
    while True:
        try:
            found.append(sock.recv(100).decode())
        except BlockingIOError:
            return found


async def test_an_agent_tells_how_it_is(server, certificates, home, manager, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "40000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    said = []
    async with agent_in(home, joined(home, server, certificates)):
        await until(lambda: said.extend(heard(manager)) or said.count("WATCHDOG=1") >= 3)
    said += heard(manager)
    assert said[0] == "READY=1"
    assert said.count("STOPPING=1") == 1


@pytest.mark.parametrize(
    ("usec", "pid", "interval"),
    [("60000000", "", 30.0), ("60000000", "1", 0.0), ("", "", 0.0), ("junk", "", 0.0)],
)
def test_the_watchdog_is_served_when_it_is_ours(monkeypatch, usec, pid, interval):
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", pid)
    assert systemd.watchdog_interval() == interval


def test_a_manager_that_is_gone_and_an_abstract_socket(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "none"))
    systemd.notify("READY=1")
    assert "notify_failed" in caplog.text
    name = f"quicflow-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        systemd.notify("READY=1")
        assert sock.recv(100) == b"READY=1"


async def test_the_watchdog_ends_with_its_task(manager):
    task = asyncio.ensure_future(systemd.stay_watched(0.01))
    said = []
    await until(lambda: said.extend(heard(manager)) or len(said) >= 2)
    task.cancel()
    await asyncio.wait([task])
    assert set(said) == {"WATCHDOG=1"}
