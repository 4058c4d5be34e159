"""The agent as a whole, against a scripted server over real QUIC."""

import json
import time

import psutil
from quartzflow_agent import agent as agent_module
from quartzflow_agent import handler, reporting
from quartzflow_agent.protocol import agent_pb2, task_pb2
from quartzflow_agent.protocol import backbone_pb2 as pb
from quartzflow_agent.status import load
from quartzflow_agent.store import executions, outbox, statistics, tasks
from quartzflow_agent.store.records import utc_day

from tests.agent.fake_server import FakeServer, running
from tests.agent.running_agent import agent_in, ending, joined, now, stored
from tests.agent.support import instruction, task_config, until
from tests.services import free_port

# --- the way of one firing ---


async def test_runs_what_the_server_sends_and_says_what_became_of_it(agent, server, home):
    (msg_id,) = server.peers[0].execute(now(config={"command": "echo hello; hostname"}))
    await until(lambda: server.results)
    assert server.acks[msg_id].status == pb.ACK_STATUS_SUCCESS
    (progress,) = server.progresses
    assert progress.status == task_pb2.RUNNING
    (result,) = server.results
    assert result.status == task_pb2.SUCCESS
    assert result.output.startswith("hello\n")
    await until(lambda: not stored(home, outbox.count_pending))
    record = stored(home, lambda db: executions.get(db, "exec_1"))
    assert record.synced
    day = utc_day(result.started_at)
    assert home.log_file(record.log).read_text() == result.output
    view = home.executions / f"{day}.json"
    await until(lambda: view.exists() and json.loads(view.read_text())["executions"][0]["synced"])
    # The files follow each other.
    await until(home.pending_sync.exists)
    assert json.loads(home.pending_sync.read_text()) == {"pending_executions": []}


async def test_starts_on_the_servers_time_not_on_its_own(home, server, certificates):
    server.clock_ahead = 3_600_000
    async with agent_in(home, joined(home, server, certificates)):
        await until(lambda: server.pings)
        due = server.now() + 400
        server.peers[0].execute(instruction(scheduled_time=due))
        await until(lambda: server.results)
        assert 0 <= server.results[0].started_at - due < 200


async def test_a_burst_of_instructions_loses_nothing(agent, server):
    orders = [now(number=n, task_id=str(n), config={"command": "echo $QF_EXECUTION_ID"}) for n in range(120)]
    ids = server.peers[0].execute(*orders)
    await until(lambda: len(server.results) == 120)
    assert {r.output for r in server.results} == {f"exec_{n}\n" for n in range(120)}
    assert set(ids) <= server.acks.keys()


async def test_an_instruction_that_is_refused_is_answered_with_the_reason(agent, server):
    (msg_id,) = server.peers[0].execute(now(task_id="../x"))
    await until(lambda: msg_id in server.acks)
    assert server.acks[msg_id].status == pb.ACK_STATUS_FAILURE
    assert server.acks[msg_id].error == "rejected: malformed task id"


async def test_a_cancelled_execution_ends_with_its_children(agent, server):
    server.peers[0].execute(now(config={"command": "sleep 60 & echo $!; wait"}))
    server.peers[0].watch("exec_1")
    await until(lambda: any(p.output for p in server.progresses))
    child = int(next(p.output for p in server.progresses if p.output))
    msg_id = server.peers[0].cancel("exec_1")
    await until(lambda: server.results)
    assert msg_id in server.acks
    assert (server.results[0].status, server.results[0].failure_reason) == (
        task_pb2.CANCELLED,
        "cancelled_by_user",
    )
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


async def test_output_comes_while_somebody_looks(agent, server):
    server.peers[0].execute(now(config={"command": "for i in 1 2 3 4; do echo $i; sleep 0.6; done"}))
    await until(lambda: server.progresses)
    server.peers[0].watch("exec_1")
    await until(lambda: server.results)
    pieces = [(p.output_offset, p.output) for p in server.progresses if p.output]
    assert len(pieces) >= 2
    text = "".join(piece for _, piece in pieces)
    assert "1\n2\n3\n4\n".startswith(text)
    assert [offset for offset, _ in pieces] == [text.index(piece) for _, piece in pieces]


async def test_a_full_log_is_sent_on_request(agent, server):
    server.peers[0].execute(now(config={"command": "yes 0123456789 | head -c 300000"}))
    await until(lambda: server.results)
    assert server.results[0].truncated

    def fetch(name, **fields):
        request = agent_pb2.LogFetch(**{"request_id": name, "execution_id": "exec_1", **fields})
        server.peers[0].say(pb.MESSAGE_TYPE_LOG_FETCH, request, wait_ack=False)

    async def answer(name):
        await until(lambda: any(c.request_id == name and c.last for c in server.chunks))
        return [c for c in server.chunks if c.request_id == name]

    fetch("all")
    chunks = await answer("all")
    assert b"".join(c.data for c in chunks) == (b"0123456789\n" * 30000)[:300_000]
    assert [c.offset for c in chunks] == [0, 131_072, 262_144]
    assert {c.total for c in chunks} == {300_000}
    fetch("part", offset=299_990, limit=5)
    (chunk,) = await answer("part")
    assert (chunk.offset, chunk.data) == (299_990, (b"0123456789\n" * 30000)[299_990:299_995])
    fetch("none", execution_id="exec_9")
    (chunk,) = await answer("none")
    assert "no log" in chunk.error


async def test_a_refusal_is_in_its_status_as_soon_as_it_is_known(home, server, certificates):
    server.refusal = ("protocol_version", "the server speaks agent protocol 2, the agent 1: update the agent")
    async with agent_in(home, joined(home, server, certificates)):
        await until(lambda: home.status.exists() and load(home)["problem"])
        said = load(home)
        assert said["problem"] == f"refused (protocol_version): {server.refusal[1]}"
        assert not said["connected"]


# --- the configuration ---


async def test_pulls_its_configuration_and_confirms_what_is_pushed(home, server, certificates):
    server.tasks, server.config_version = [task_config("1")], 7
    async with agent_in(home, joined(home, server, certificates)):
        await until(lambda: any(ack.result == b"7" for ack in server.acks.values()))
        msg_id = server.peers[0].push(task_config("2"), version=8, deleted=["1"])
        await until(lambda: msg_id in server.acks)
        assert server.acks[msg_id].result == b"8"
        assert [task.config.id for task in stored(home, tasks.all_tasks)] == ["2"]


async def test_a_heartbeat_that_shows_another_version_makes_it_pull(home, server, certificates):
    server.heartbeat = 1
    async with agent_in(home, joined(home, server, certificates)):
        await until(lambda: server.pings)
        server.tasks, server.config_version = [task_config("1")], 9
        await until(lambda: any(ack.result == b"9" for ack in server.acks.values()))
        await until(lambda: server.pings[-1].config_version == 9)


async def test_a_configuration_that_does_not_come_is_asked_for_again(home, server, certificates, monkeypatch):
    monkeypatch.setattr(handler, "PULL_PATIENCE", 0.5)
    server.heartbeat = 1
    server.answers_pulls = False
    server.tasks, server.config_version = [task_config("1")], 9
    async with agent_in(home, joined(home, server, certificates)):
        await until(lambda: server.pings)
        server.answers_pulls = True
        await until(lambda: any(ack.result == b"9" for ack in server.acks.values()))


async def test_a_task_that_is_disabled_in_the_last_moment_does_not_run(agent, server):
    peer = server.peers[0]
    order = now()
    order.scheduled_time += 700
    peer.execute(order)
    await until(lambda: server.acks)
    peer.push(task_config(version=6, enabled=False), version=2)
    await until(lambda: server.results)
    assert (server.results[0].status, server.results[0].failure_reason) == (
        task_pb2.CANCELLED,
        "task_disabled",
    )


# --- without a server ---


async def test_a_result_is_kept_until_the_server_has_it(home, server, certificates):
    server.acknowledges = False
    config = joined(home, server, certificates)
    async with agent_in(home, config):
        await until(lambda: server.peers)
        server.peers[0].execute(now(config={"command": "echo kept"}))
        await until(lambda: server.results)
        assert stored(home, outbox.count_pending) == 1
    server.acknowledges = True
    async with agent_in(home, config):
        await until(lambda: server.syncs)
        assert [(r.execution_id, r.output) for r in server.syncs[0].records] == [("exec_1", "kept\n")]
        await until(lambda: not stored(home, outbox.count_pending))
        await until(lambda: server.stats)
        (stats,) = server.stats[-1].task_stats
        assert (stats.task_id, stats.success_count) == ("1", 1)
        day = server.stats[-1].date
        await until(lambda: stored(home, lambda db: statistics.is_synced(db, day)))


async def test_a_result_without_an_answer_is_sent_again_over_the_same_connection(
    home, server, certificates, monkeypatch
):
    monkeypatch.setattr(reporting, "SWEEP", 0.1)
    monkeypatch.setattr(outbox, "FIRST_DELAY", 300)
    server.acknowledges = False
    async with agent_in(home, joined(home, server, certificates)):
        await until(lambda: server.peers)
        server.peers[0].execute(now())
        await until(lambda: server.results)
        server.acknowledges = True
        await until(lambda: server.syncs)
        await until(lambda: not stored(home, outbox.count_pending))


async def test_many_records_go_in_batches(home, server, certificates):
    config = joined(home, server, certificates)
    async with agent_in(home, config) as agent:
        await until(lambda: server.peers)
        server.acknowledges = False

        def fill(db):
            for number in range(450):
                order = now(number=number)
                executions.add(db, order)
                executions.finish(db, order.execution_id, ending(number))

        await agent._store.call(fill)
        server.acknowledges = True
        server.peers[0].close()
        await until(lambda: sum(len(sync.records) for sync in server.syncs) >= 450)
        await until(lambda: not stored(home, outbox.count_pending))
        names = [r.execution_id for sync in server.syncs for r in sync.records]
        assert names == [f"exec_{n}" for n in range(450)]
        assert {len(sync.records) for sync in server.syncs} == {200, 50}


async def test_what_the_server_asks_for_again_it_gets_with_its_output(agent, server, home):
    order = now(config={"command": "echo once"})
    server.peers[0].execute(order)
    await until(lambda: server.results and not stored(home, outbox.count_pending))
    server.peers[0].execute(order)
    await until(lambda: server.syncs)
    assert [(r.execution_id, r.output) for r in server.syncs[0].records] == [("exec_1", "once\n")]
    assert len(server.progresses) == 1


async def test_what_the_server_has_lost_it_gets_again_and_the_statistics_after_it(agent, server, home):
    server.peers[0].execute(now(number=1, config={"command": "echo one"}), now(number=2, task_id="2"))
    await until(lambda: len(server.results) == 2 and not stored(home, outbox.count_pending))
    server.wants = ["1"]
    server.peers[0].close()
    await until(lambda: len(server.stats) >= 2)
    assert [(r.execution_id, r.output) for sync in server.syncs for r in sync.records] == [
        ("exec_1", "one\n")
    ]
    day = server.stats[-1].date
    await until(lambda: stored(home, lambda db: statistics.is_synced(db, day)))
    assert not stored(home, outbox.count_pending)


async def test_what_nobody_can_supply_is_not_asked_about_for_ever(agent, server, home):
    server.peers[0].execute(now())
    await until(lambda: server.results and not stored(home, outbox.count_pending))
    server.wants, server.refuses = ["1,9"], {"exec_1"}
    server.peers[0].close()
    await until(lambda: len(server.stats) >= 2)
    day = server.stats[-1].date
    await until(lambda: stored(home, lambda db: statistics.is_synced(db, day)))
    assert len(server.syncs) == 1
    assert not stored(home, outbox.count_pending)


async def test_fires_by_itself_while_there_is_no_server_and_reports_it_later(home, certificates, monkeypatch):
    monkeypatch.setattr(agent_module, "START_GRACE", 0.2)
    config = task_config("7", cron_expr="* * * * * *", config={"command": "echo alone"})
    port = free_port()
    server = FakeServer(certificates)
    server.tasks, server.config_version = [config], 1
    server.heartbeat = 1
    async with running(server, port), agent_in(home, joined(home, server, certificates)) as agent:
        await until(lambda: server.acks)
        assert server.results == []  # the server fires, not the agent
        server.vanish()
        await until(lambda: agent._local.active)
        await until(lambda: stored(home, outbox.count_pending) >= 2)
        again = FakeServer(certificates)
        again.tasks, again.config_version = [config], 1
        async with running(again, port):
            await until(lambda: again.syncs)
            assert not agent._local.active
            record = again.syncs[0].records[0]
            assert record.local
            assert record.output == "alone\n"
            moment = time.strftime("%Y%m%d_%H%M%S", time.gmtime(record.scheduled_time / 1000))
            assert record.execution_id == f"exec_{moment}_7_c1"
            assert record.run_id == f"run_{moment}_7"


async def test_fires_by_itself_when_the_server_has_no_scheduler(home, server, certificates):
    server.scheduler_alive = False
    server.heartbeat = 1
    server.tasks, server.config_version = [task_config("7", cron_expr="* * * * * *")], 1
    async with agent_in(home, joined(home, server, certificates)) as agent:
        await until(lambda: len(server.results) >= 2)
        assert all(r.local for r in server.results)
        server.scheduler_alive = True
        await until(lambda: not agent._local.active)
