"""Records that an agent has written, for the commands that show them."""

import sys

from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.store import executions, outbox, tasks
from quartzflow_agent.store.database import open_database
from quartzflow_agent.store.records import CANCELLED, FAILURE, SUCCESS, TIMEOUT, Ending

from tests.agent.support import START, instruction, task_config

DAY = "2025-01-09"
PROGRAM = [sys.executable, "-c", "from quartzflow_agent.cli import main; main()"]


def fill(home):
    """The store of PRD FR-5.5's example, in small."""
    db = open_database(home.store)
    db.execute("BEGIN")
    log = f"{DAY}/1_exec_a.log"

    def ran(name, task_id, title, status, ms, at=START, reason=""):
        order = instruction(execution_id=name, task_id=task_id, task_name=title, scheduled_time=at)
        executions.add(db, order)
        executions.start(db, name, at, log)
        code = None if status == CANCELLED else int(status != SUCCESS)
        executions.finish(db, name, Ending(status, at + ms, exit_code=code, failure_reason=reason))

    ran("exec_a", "1", "日志清理", SUCCESS, 2300)
    ran("exec_b", "2", "数据备份", SUCCESS, 45_200)
    for number in range(285):
        ran(f"exec_h{number}", "3", "健康检查", SUCCESS, 500, START + number * 1000)
    for number, status in enumerate([FAILURE, TIMEOUT, CANCELLED]):
        ran(f"exec_f{number}", "3", "健康检查", status, 500, reason="exit_code")
    ran("exec_old", "1", "日志清理", FAILURE, 1000, START - 86_400_000, "exit_code")
    executions.add(db, instruction(execution_id="exec_never", task_id="4"))
    outbox.acknowledge(db, [("exec_a", 0)])
    found = [task_config("1", name="日志清理", cron_expr="0 2 * * *", timezone="Asia/Shanghai")]
    found += [
        task_config(
            "2", name="数据备份", schedule_type="fixed_rate", interval_seconds=60, local_firing=False
        ),
        task_config("3", name="健康检查", schedule_type="fixed_delay", interval_seconds=30, enabled=False),
        task_config("4", name="手动", schedule_type="none"),
    ]
    tasks.apply(db, task_pb2.TaskConfigPush(tasks=found, version=12), START)
    db.execute("COMMIT")
    db.close()
    path = home.log_file(log)
    path.parent.mkdir()
    path.write_text("cleaned 3 files\n", encoding="utf-8")
    return home
