"""Output on its way to who reads it: offsets over reconnects and attempts, and how soon it comes."""

import time

import pytest
from quartzflow_agent.executors import output as output_module
from quartzflow_agent.protocol.constants import OUTPUT_LIMIT
from quartzflow_agent.runner import WATCH_LASTS, WATCHED_INTERVAL

from tests.agent.running_agent import now
from tests.agent.support import instruction, settle, until


def pieces(rig, attempt=0):
    """(offset, text) of what was reported of an attempt."""
    return [(p.output_offset, p.output) for p in rig.reports.progresses if p.output and p.attempt == attempt]


@pytest.fixture
async def output(rig):
    """Of a running execution."""
    await rig.accept(instruction(timeout=3600))
    await rig.running("exec_1")
    return rig.executor.jobs["exec_1"].output


async def test_a_new_connection_is_told_the_output_again(rig, output):
    output.feed(1, b"one ")
    await rig.clock.advance(10)
    output.feed(1, b"two ")
    rig.engine.report_running()
    await settle()
    assert pieces(rig) == [(0, "one "), (0, "one two ")]
    output.feed(1, b"three")
    await rig.clock.advance(10)
    assert pieces(rig)[2:] == [(8, "three")]


async def test_of_what_is_beyond_the_stored_part_only_watchers_are_told_again(rig, output):
    output.feed(1, b"x" * 20_000)
    await rig.clock.advance(10)
    rig.engine.report_running()
    await settle()
    assert [(offset, len(text)) for offset, text in pieces(rig)] == [(0, OUTPUT_LIMIT)] * 2
    rig.engine.watch("exec_1", True)
    await settle()
    assert [(offset, len(text)) for offset, text in pieces(rig)[2:]] == [
        (OUTPUT_LIMIT, 20_000 - OUTPUT_LIMIT)
    ]
    rig.engine.report_running()
    await settle()
    assert [(offset, len(text)) for offset, text in pieces(rig)[3:]] == [(0, 20_000)]


async def test_a_reader_catches_up_at_once_or_gets_the_newest(rig, output, monkeypatch):
    monkeypatch.setattr(output_module, "WATCHED_BACKLOG", 30_000)
    monkeypatch.setattr(output_module, "WATCHED_INCREMENT", 8_000)
    output.feed(1, b"x" * 30_000)
    rig.engine.watch("exec_1", True)
    await settle()
    found = pieces(rig)
    assert "".join(text for _, text in found) == "x" * 30_000
    assert [offset for offset, _ in found] == [0, 8_000, 16_000, 24_000]
    output.feed(1, b"y" * 30_001)
    await rig.clock.advance(1)
    assert [(offset, len(text)) for offset, text in pieces(rig)[4:]] == [(52_001, 8_000)]


async def test_an_attempt_begins_its_own_output(rig, output):
    output.feed(1, b"first")
    await rig.clock.advance(10)
    rig.executor.end("exec_1", 1)
    await rig.ended(1)
    await rig.accept(instruction(attempt=1, trigger="retry", timeout=3600))
    await rig.running("exec_1")
    rig.executor.jobs["exec_1"].output.feed(1, b"second")
    rig.engine.report_running()
    await settle()
    assert pieces(rig) == [(0, "first")]
    assert pieces(rig, attempt=1) == [(0, "second")]


async def test_it_is_there_within_a_second_while_somebody_reads(rig, output):
    assert WATCHED_INTERVAL < 0.7  # what the way through the server takes is not the agent's
    rig.engine.watch("exec_1", True)
    await settle()
    for number in range(4):
        output.feed(1, b"%d" % number)
        await rig.clock.advance(0.75, step=0.75)
        assert len(pieces(rig)) == number + 1


async def test_who_does_not_say_again_that_he_reads_is_forgotten(rig, output):
    rig.engine.watch("exec_1", True)
    await rig.clock.advance(WATCH_LASTS + 1, step=5)
    output.feed(1, b"late")
    await rig.clock.advance(8)
    assert pieces(rig) == []
    await rig.clock.advance(2)
    assert pieces(rig) == [(0, "late")]


async def test_a_reader_is_not_forgotten_over_a_new_connection(rig, output):
    """Nobody could say so while there was none, however long that was."""
    rig.engine.watch("exec_1", True)
    await rig.clock.advance(WATCH_LASTS - 1, step=5)
    rig.engine.report_running()
    await rig.clock.advance(WATCH_LASTS - 1, step=5)
    output.feed(1, b"still watched")
    await rig.clock.advance(1)
    assert pieces(rig) == [(0, "still watched")]


# --- over real connections ---


def put_together(progresses):
    """What a server has that stores what joins, and the offset and length of all that it was told."""
    text = b""
    for p in progresses:
        data = p.output.encode()
        if p.output_offset <= len(text) < p.output_offset + len(data):
            text += data[len(text) - p.output_offset :]
    return text.decode()


async def test_nothing_is_lost_or_doubled_when_the_connection_breaks_in_mid_run(agent, server, tmp_path):
    stop = tmp_path / "stop"
    command = f"while [ ! -e {stop} ]; do i=$((i+1)); echo line $i; sleep 0.1; done"
    server.peers[0].execute(now(config={"command": command}))
    await until(lambda: server.progresses)
    server.peers[0].watch("exec_1")
    await until(lambda: "line 3\n" in put_together(server.progresses))
    server.deaf = True  # what is said now is lost with the connection
    await until(lambda: server.unheard)
    lost = server.unheard[-1].output
    server.peers[0].close()
    await until(lambda: not server.peers)
    server.deaf = False
    await until(lambda: server.peers)
    back = time.monotonic()
    await until(lambda: lost in put_together(server.progresses))
    seen = put_together(server.progresses)
    await until(lambda: len(put_together(server.progresses)) > len(seen) + 40)
    assert time.monotonic() - back < 5.0  # still watched: nobody waits ten seconds
    stop.touch()
    await until(lambda: server.results)
    whole = server.results[0].output
    assert whole == "".join(f"line {number}\n" for number in range(1, whole.count("\n") + 1))
    assert whole.startswith(put_together(server.progresses))
    for p in server.progresses:
        assert whole.encode()[p.output_offset :].startswith(p.output.encode())
