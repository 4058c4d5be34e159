"""What the agent forgets of its files, and its own log."""

import logging
import os
import stat

import pytest
from quartzflow_agent import logs
from quartzflow_agent.config import AgentConfig, ConfigError, Endpoint
from quartzflow_agent.retention import delete_before, trim_logs
from quartzflow_agent.store import executions, outbox

from tests.agent.running_agent import agent_in, joined, now, stored
from tests.agent.support import START, instruction, until
from tests.agent.test_store import run


def test_old_files_go_except_those_of_days_that_are_kept(home):
    for day in ("2025-01-01", "2025-01-02", "2025-01-09"):
        (home.executions / f"{day}.json").write_text("{}")
        (home.daily_stats / f"{day}.json").write_text("{}")
        (home.logs / day).mkdir()
        (home.logs / day / "1_exec.log").write_text("x")
    (home.logs / "notes.txt").write_text("somebody else's")
    delete_before(home, "2025-01-05", {"2025-01-02"})
    for directory in (home.executions, home.daily_stats, home.logs):
        names = sorted(path.name[:10] for path in directory.iterdir() if path.name != "notes.txt")
        assert names == ["2025-01-02", "2025-01-09"]
    assert (home.logs / "notes.txt").exists()


@pytest.fixture
def five(home):
    """Five logs of 64 KB, oldest first."""
    found = []
    for number in range(1, 6):
        path = home.log_file(f"2025-01-0{number}/1_exec_{number}.log")
        path.parent.mkdir()
        path.write_bytes(b"x" * 65_536)
        os.utime(path, (START / 1000 + number, START / 1000 + number))
        found.append(path)
    return found


def left(found):
    return [number for number, path in enumerate(found, 1) if path.exists()]


def test_the_oldest_logs_go_when_all_take_too_much(home, five):
    assert trim_logs(home, (), 5 * 65_536).files == 0
    trimmed = trim_logs(home, (), 3 * 65_536)
    assert (trimmed.files, trimmed.left) == (2, 3 * 65_536)
    assert left(five) == [3, 4, 5]


def test_but_none_that_is_still_needed(home, five):
    retried = five[0].with_name("1_exec_1.2.log")
    five[0].rename(retried)
    trimmed = trim_logs(home, {"1_exec_1", "1_exec_3"}, 65_536)
    assert retried.exists()
    assert left(five) == [3]
    assert trimmed.left == 2 * 65_536  # more than allowed, and said


def test_needed_is_what_is_not_over_and_what_the_server_lacks(db):
    for number in (1, 2, 3):
        run(db, number)
    executions.add(db, instruction(4))
    outbox.acknowledge(db, [("exec_1", 0)])
    outbox.refuse(db, "exec_2", 0)
    assert sorted(executions.not_settled(db)) == ["1_exec_3", "1_exec_4"]
    assert outbox.days(db) == ["2025-01-09"]


async def test_an_agent_that_writes_much_makes_room_by_itself(home, server, certificates, monkeypatch):
    monkeypatch.setattr("quartzflow_agent.agent.START_GRACE", 0.1)
    config = joined(home, server, certificates, log_limit=100_000, logs_limit=250_000)
    async with agent_in(home, config):
        await until(lambda: server.peers)
        for number in range(1, 6):
            server.peers[0].execute(
                now(number=number, config={"command": "head -c 90000 /dev/zero | tr '\\0' x"})
            )
            await until(lambda n=number: len(server.results) == n)
            await until(lambda: not stored(home, outbox.count_pending))
        logs_of = lambda: sorted(path.name for path in home.logs.glob("*/*.log"))  # noqa: E731
        await until(lambda: len(logs_of()) == 2)
        assert logs_of() == ["1_exec_4.log", "1_exec_5.log"]


def test_all_logs_together_may_take_no_less_than_one(certificates):
    config = AgentConfig([Endpoint("a", 1)], "c1", log_limit=5000, logs_limit=4000)
    with pytest.raises(ConfigError, match="logs_limit"):
        config.check()


@pytest.fixture
def _logging():
    """Leaves logging as it was."""
    root, ours = logging.getLogger(), logging.getLogger("quartzflow_agent")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


@pytest.mark.usefixtures("_logging")
def test_the_agents_own_log_is_rotated_and_private(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "FILE_SIZE", 2000)
    monkeypatch.setattr(logs, "FILES_KEPT", 2)
    logs.configure("INFO", tmp_path / "agent.log")
    for number in range(200):
        logging.getLogger("quartzflow_agent.test").info(logs.event("said", number=number))
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == ["agent.log", "agent.log.1", "agent.log.2"]
    assert all(path.stat().st_size <= 2000 for path in files)
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert files[0].read_text().endswith("INFO said number=199\n")


def test_a_log_that_cannot_be_written_is_an_error_with_its_path(home, quicflow, tmp_path):
    code, _, err = quicflow("agent", "run", "--log-file", tmp_path / "none" / "agent.log")
    assert code == 1
    assert "none/agent.log" in err
