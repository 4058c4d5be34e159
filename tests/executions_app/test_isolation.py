"""A task never reaches a host outside its groups (F7), whatever moves while it fires."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone
from quartzflow_agent.schedule import uuid7

from executions_app import control, instructions
from executions_app.choices import ExecutionType, FailureReason
from executions_app.dispatch import Firing, fire, new_firing
from executions_app.models import Execution
from executions_app.placement import do_move_clients
from executions_app.retries import do_retry_executions
from executions_app.sweeps import pending_for_bridge
from groups_app.models import Client
from quartzflow.execution_status import LIVE, ExecutionStatus
from tasks_app.models import Task
from tests import people
from tests.services import wait_until

pytestmark = pytest.mark.usefixtures("each_database")


def firing(task: Task) -> Firing:
    return Firing(task.pk, timezone.now() + timedelta(minutes=1), uuid7())


def strays() -> list[Execution]:
    """What waits or runs on hosts that are in none of its task's groups."""
    groups = dict(Client.objects.values_list("client_id", "group_id"))
    return [
        e
        for e in Execution.objects.filter(status__in=LIVE).select_related("task")
        if not e.task.groups.filter(pk=groups[e.client_id]).exists()
    ]


def in_thread(pool: ThreadPoolExecutor, work: Callable[[], Any]) -> Any:
    def run() -> Any:
        try:
            return work()
        finally:
            connection.close()

    return pool.submit(run)


def waits_for_a_lock() -> bool:
    """Whether somebody stands before a lock; SQLite does not tell, and lets nobody write beside another anyway."""
    if connection.vendor == "sqlite":
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])


def test_a_move_waits_for_rows_that_are_being_made_and_cancels_them():
    client, task, web = people.online_client(), people.task(), people.group("web")
    user = people.admin()
    with ThreadPoolExecutor() as pool:
        with transaction.atomic():
            (made,) = fire([firing(task)])
            begun = threading.Event()

            def move() -> int:
                begun.set()
                return do_move_clients(user, [client], web)

            moving = in_thread(pool, move)
            begun.wait(5)
            wait_until(waits_for_a_lock, 5, "the move at the lock")
            assert not moving.done()
        assert moving.result(10) == 1
    made.refresh_from_db()
    assert (made.status, made.failure_reason) == (ExecutionStatus.CANCELLED, FailureReason.HOST_MOVED)


def test_a_firing_waits_for_a_move_and_finds_the_host_gone():
    client, task, web = people.online_client(), people.task(), people.group("web")
    other = people.task("other", group_ids=[web.pk])
    user = people.admin()
    with ThreadPoolExecutor() as pool:
        with transaction.atomic():
            do_move_clients(user, [client], web)
            begun = threading.Event()

            def both() -> list[Execution]:
                begun.set()
                return fire([firing(task), firing(other)])

            fired = in_thread(pool, both)
            begun.wait(5)
            wait_until(waits_for_a_lock, 5, "the firing at the lock")
            assert not fired.done()
        rows = fired.result(10)
    assert [(e.task_id, e.client_id, e.failure_reason) for e in rows] == [
        (task.pk, "", FailureReason.NO_ONLINE_CLIENT),
        (other.pk, client.client_id, ""),
    ]


def test_a_task_that_leaves_a_group_while_it_fires_leaves_nothing_there():
    people.online_client()
    task, web, user = people.task(), people.group("web"), people.admin()
    with ThreadPoolExecutor() as pool:
        with transaction.atomic():
            fire([firing(task)])
            begun = threading.Event()

            def bind() -> None:
                begun.set()
                control.do_update_task(user, Task.objects.get(pk=task.pk), {"group_ids": [web.pk]})

            binding = in_thread(pool, bind)
            begun.wait(5)
            wait_until(waits_for_a_lock, 5, "the edit at the lock")
        binding.result(10)
    assert strays() == []
    assert Execution.objects.get().status == ExecutionStatus.CANCELLED


def test_firings_and_moves_at_once_leave_nothing_outside():
    client, user = people.online_client(), people.admin()
    groups = [people.group(), people.group("web")]
    tasks = [people.task(f"of {group.name}", group_ids=[group.pk]) for group in groups]
    done = threading.Event()

    def fire_on() -> None:
        while not done.is_set():
            fire([firing(task) for task in tasks])

    def move_on() -> None:
        try:
            for number in range(20):
                do_move_clients(user, list(Client.objects.select_related("group")), groups[(number + 1) % 2])
        finally:
            done.set()

    with ThreadPoolExecutor() as pool:
        for running in [in_thread(pool, fire_on), in_thread(pool, fire_on), in_thread(pool, move_on)]:
            running.result(60)
    assert Client.objects.get(pk=client.pk).group == groups[0]
    assert strays() == []
    assert Execution.objects.filter(failure_reason=FailureReason.HOST_MOVED).exists()
    assert Execution.objects.filter(status=ExecutionStatus.PENDING).exists()


def test_what_was_cancelled_before_it_is_sent_is_not_sent(monkeypatch):
    client, task = people.online_client(), people.task()
    sent: list[Any] = []
    monkeypatch.setattr(instructions.bridges, "send_all", lambda messages: sent.extend(messages))
    with transaction.atomic():
        rows = fire([firing(task), firing(task)])
        do_move_clients(people.admin(), [client], people.group("web"))
    assert {message["type"] for _, message in sent} == {"config", "cancel", "dispatch"} - {"dispatch"}
    assert len(rows) == 2
    sent.clear()
    do_move_clients(people.admin(), list(Client.objects.select_related("group")), people.group())
    fire([firing(task)])
    assert "dispatch" in {message["type"] for _, message in sent}


@pytest.mark.parametrize("kind", [ExecutionType.MANUAL, ExecutionType.SCHEDULED])
def test_the_sweep_ends_what_waits_on_a_host_that_left_by_another_way(kind):
    client, task = people.online_client(), people.task()
    (made,) = fire([new_firing(task, kind)])
    later = timezone.now() + timedelta(seconds=5)
    assert [name for name, _ in pending_for_bridge(people.BRIDGE, later)] == [client.client_id]
    Client.objects.update(group=people.group("web"))
    assert pending_for_bridge(people.BRIDGE, later) == []
    made.refresh_from_db()
    assert (made.status, made.failure_reason) == (ExecutionStatus.CANCELLED, FailureReason.HOST_MOVED)


def test_a_retry_waits_for_a_move_like_a_firing():
    client, task, web, user = people.online_client(), people.task(), people.group("web"), people.admin()
    fire([firing(task)])
    Execution.objects.update(status=ExecutionStatus.FAILURE)
    failed = list(Execution.objects.all())
    with ThreadPoolExecutor() as pool:
        with transaction.atomic():
            do_retry_executions(user, failed)
            begun = threading.Event()

            def move() -> int:
                begun.set()
                return do_move_clients(user, [client], web)

            moving = in_thread(pool, move)
            begun.wait(5)
            wait_until(waits_for_a_lock, 5, "the move at the lock")
        moving.result(10)
    assert strays() == []
    assert Execution.objects.filter(failure_reason=FailureReason.HOST_MOVED).count() == 1
