"""The tasks that the agent keeps, and the thread that writes."""

import asyncio
import sqlite3
import time

import pytest
from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.store import executions, tasks
from quartzflow_agent.store.database import StoreError, get_meta, open_readonly, set_meta
from quartzflow_agent.store.records import (
    Added,
)
from quartzflow_agent.store.thread import StoreThread

from tests.agent.support import START, instruction, task_config

# --- the configuration ---


def config(*found, version, action=task_pb2.UPDATE, deleted=()):
    return task_pb2.TaskConfigPush(tasks=found, version=version, action=action, deleted_task_ids=deleted)


def held(db):
    return {item.config.id: item.config.version for item in tasks.all_tasks(db)}


def test_the_whole_configuration_replaces_everything(db):
    tasks.apply(db, config(task_config("1"), task_config("2"), version=5, action=task_pb2.FULL_SYNC), START)
    changes = tasks.apply(
        db, config(task_config("2"), task_config("3"), version=6, action=task_pb2.FULL_SYNC), START
    )
    assert held(db).keys() == {"2", "3"}
    assert (set(changes.tasks), changes.removed, changes.version) == ({"3"}, ["1"], 6)
    assert tasks.version(db) == 6


def test_a_change_adds_edits_and_deletes(db):
    tasks.apply(db, config(task_config("1"), task_config("2"), version=5), START)
    changes = tasks.apply(
        db, config(task_config("1", version=6), version=6, deleted=["2", "unknown"]), START + 1
    )
    assert held(db) == {"1": 6}
    assert (set(changes.tasks), changes.removed) == ({"1"}, ["2"])
    tasks.apply(db, config(task_config("1"), version=7, action=task_pb2.DELETE), START)
    assert held(db) == {}


def test_an_older_change_is_ignored_but_the_whole_is_always_right(db):
    tasks.apply(db, config(task_config("1"), version=5), START)
    assert tasks.apply(db, config(task_config("2"), version=4), START).version == 5
    assert held(db).keys() == {"1"}
    # A server that was restored from a backup counts anew.
    tasks.apply(db, config(task_config("3"), version=2, action=task_pb2.FULL_SYNC), START)
    assert (held(db).keys(), tasks.version(db)) == ({"3"}, 2)


def test_an_unchanged_task_keeps_what_is_known_of_it(db):
    tasks.apply(db, config(task_config("1"), version=5), START)
    tasks.set_fired(db, "1", START + 60_000)
    tasks.set_fired(db, "1", START)
    tasks.apply(db, config(task_config("1"), version=6), START + 99)
    (task,) = tasks.all_tasks(db)
    assert (task.changed_at, task.fired_at) == (START, START + 60_000)


@pytest.mark.parametrize(
    ("change", "begun"),
    [
        ({"name": "renamed", "version": 6}, START),
        ({"schedule_since": START + 50}, START + 99),
        ({"enabled": False}, START + 99),
        ({"local_firing": False}, START + 99),
    ],
)
def test_an_edit_of_other_things_does_not_begin_the_schedule_anew(db, change, begun):
    tasks.apply(db, config(task_config("1", schedule_since=START - 9), version=5), START)
    changed = task_config("1", **{"schedule_since": START - 9, **change})
    tasks.apply(db, config(changed, version=6), START + 99)
    (task,) = tasks.all_tasks(db)
    assert task.changed_at == begun
    assert task.config == changed


# --- the thread ---


async def test_operations_that_wait_together_are_committed_together(store):
    found = await asyncio.gather(
        *(store.call(lambda db, n=n: (executions.add(db, instruction(n)), n)) for n in range(500))
    )
    assert [n for _, n in found] == list(range(500))
    assert {added for added, _ in found} == {Added.NEW}


async def test_an_operation_that_fails_takes_nobody_with_it(store):
    def fail(db):
        set_meta(db, "half", "done")
        raise ValueError("mine")

    good, bad, later = await asyncio.gather(
        store.call(lambda db: set_meta(db, "good", "1")),
        store.call(fail),
        store.call(lambda db: (get_meta(db, "good"), get_meta(db, "half"))),
        return_exceptions=True,
    )
    assert good is None
    assert isinstance(bad, ValueError)
    assert later == ("1", "")


async def test_a_full_disk_is_a_store_error_and_passes(store):
    limit = await store.call(lambda db: db.execute("PRAGMA page_count").fetchone()[0])
    await store.call(lambda db: set_meta(db, "before", "1"))

    def fill(db):
        db.execute(f"PRAGMA max_page_count = {limit}")
        db.execute("INSERT INTO meta VALUES ('big', zeroblob(1000000))")

    with pytest.raises(StoreError, match="full"):
        await store.call(fill)
    await store.call(lambda db: db.execute("PRAGMA max_page_count = 1000000"))
    await store.call(lambda db: set_meta(db, "after", "1"))
    assert await store.call(lambda db: (get_meta(db, "before"), get_meta(db, "big"))) == ("1", "")


async def test_a_write_that_fails_takes_neither_reads_nor_other_writes_with_it(store):
    def full(db):
        set_meta(db, "half", "done")
        raise sqlite3.OperationalError("database or disk is full")

    await store.call(lambda db: set_meta(db, "k", "1"))
    found = await asyncio.gather(
        store.call(lambda db: time.sleep(0.1)),  # so that the others wait together
        store.call(lambda db: get_meta(db, "k")),
        store.call(full),
        store.call(lambda db: set_meta(db, "k", "2")),
        store.call(lambda db: get_meta(db, "k") + get_meta(db, "half")),
        return_exceptions=True,
    )
    assert [type(item) if isinstance(item, Exception) else item for item in found] == [
        None,
        "1",
        StoreError,
        None,
        "2",
    ]


async def test_a_record_is_written_in_less_than_10_ms(store):
    took = []
    for number in range(100):
        started = time.perf_counter()
        await store.call(lambda db, n=number: executions.add(db, instruction(n)))
        took.append(time.perf_counter() - started)
    assert sorted(took)[10] < 0.010


async def test_others_can_read_while_the_agent_writes(store, home):
    await store.call(lambda db: executions.add(db, instruction()))
    reader = open_readonly(home.store)
    assert executions.get(reader, "exec_1") is not None
    await store.call(lambda db: executions.add(db, instruction(2)))
    assert executions.get(reader, "exec_2") is not None
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        set_meta(reader, "a", "b")
    reader.close()


async def test_what_waits_is_done_before_the_store_closes(home):
    thread = StoreThread(home.store)
    waiting = [
        asyncio.ensure_future(thread.call(lambda db, n=n: set_meta(db, f"k{n}", "1"))) for n in range(50)
    ]
    await asyncio.sleep(0)
    await thread.close()
    await asyncio.gather(*waiting)
    reader = open_readonly(home.store)
    assert get_meta(reader, "k49") == "1"
    reader.close()
    await thread.close()
