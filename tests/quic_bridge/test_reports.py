"""What agents report, and what they are answered."""

from quartzflow_agent.protocol import backbone_pb2 as pb
from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.protocol.constants import RECORDS_WANTED

from .agents import eventually


async def test_empty_and_oversized_syncs_are_answered_too(connect, domain):
    a = await connect("host-1")
    a.say(pb.MESSAGE_TYPE_OFFLINE_SYNC_REQUEST, task_pb2.OfflineSyncRequest())
    _, response = await a.next_data(task_pb2.OfflineSyncResponse)
    assert response.success
    many = [task_pb2.TaskResult(execution_id="e")] * 2001
    a.say(pb.MESSAGE_TYPE_OFFLINE_SYNC_REQUEST, task_pb2.OfflineSyncRequest(records=many))
    _, response = await a.next_data(task_pb2.OfflineSyncResponse)
    assert (response.success, response.message) == (False, "more than 2000 records at once")
    assert domain.reports == []


async def test_daily_statistics_are_acknowledged_or_refused(connect, domain):
    a = await connect("host-1")
    good = a.say(
        pb.MESSAGE_TYPE_DAILY_STATS_REPORT,
        task_pb2.DailyStatsReport(client_id="host-1", date="2026-01-02"),
        True,
    )
    ack = await a.next_ack()
    assert (ack.msg_id, ack.status) == (good, pb.ACK_STATUS_SUCCESS)
    a.say(pb.MESSAGE_TYPE_DAILY_STATS_REPORT, task_pb2.DailyStatsReport(), True)
    assert (await a.next_ack()).status == pb.ACK_STATUS_FAILURE
    assert [client_id for client_id, _ in domain.stats] == ["host-1"]


async def test_records_that_are_missing_are_asked_for(connect, domain):
    a = await connect("host-1")
    domain.wanted = [["7", "8"], []]
    report = task_pb2.DailyStatsReport(client_id="host-1", date="2026-01-02")
    a.say(pb.MESSAGE_TYPE_DAILY_STATS_REPORT, report, True)
    ack = await a.next_ack()
    assert (ack.status, ack.error, ack.result) == (pb.ACK_STATUS_FAILURE, RECORDS_WANTED, b"7,8")
    a.say(pb.MESSAGE_TYPE_DAILY_STATS_REPORT, report, True)
    assert (await a.next_ack()).status == pb.ACK_STATUS_SUCCESS


async def test_a_sync_says_what_will_never_be_taken(connect, domain):
    a = await connect("host-1")
    domain.known = {"exec_1"}
    records = [task_pb2.TaskResult(execution_id=name) for name in ("exec_1", "exec_2")]
    a.say(pb.MESSAGE_TYPE_OFFLINE_SYNC_REQUEST, task_pb2.OfflineSyncRequest(records=records))
    _, response = await a.next_data(task_pb2.OfflineSyncResponse)
    assert (list(response.execution_ids), list(response.refused_ids)) == (["exec_1"], ["exec_2"])


async def test_progress_reaches_the_domain_unanswered(connect, domain):
    a = await connect("host-1")
    progress = task_pb2.TaskProgress(execution_id="exec_1", status=task_pb2.RUNNING, output="line\n")
    a.say(pb.MESSAGE_TYPE_TASK_PROGRESS, progress)
    await eventually(lambda: domain.reports)
    assert domain.reports[0].message == progress
    assert a.frames.empty()
