"""The output of executions: the start of it is kept, the rest stays with the agent (FR-4.2)."""

from collections.abc import Sequence

from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.protocol.constants import ERROR_LIMIT, OUTPUT_LIMIT
from quartzflow_agent.protocol.text import cut_utf8, tail_utf8

from .models import ExecutionLog


def save_outputs(
    increments: Sequence[tuple[int, task_pb2.TaskProgress]],
    results: Sequence[tuple[int, task_pb2.TaskResult]],
) -> list[tuple[int, int, str]]:
    """Keep the start of every output; each message comes with the primary key of its execution.

    Returns the increments that pages should see: (pk, byte offset, text).
    """
    grown: list[tuple[int, int, str]] = []
    pks = {pk for pk, _ in (*increments, *results)}
    logs = {row.pk: row for row in ExecutionLog.objects.filter(pk__in=pks)} if pks else {}
    for pk, m in increments:
        entry = logs.setdefault(pk, ExecutionLog(execution_id=pk))
        data = m.output.encode("utf-8", "replace")
        if m.output_offset == 0 and entry.size and m.attempt:
            entry.output, entry.size, entry.truncated = "", 0, False  # a new attempt begins its own output
        if m.output_offset + len(data) <= entry.size:
            continue  # seen before
        if m.output_offset == entry.size and not entry.truncated:
            entry.output, entry.truncated = cut_utf8(entry.output + m.output, OUTPUT_LIMIT)
        entry.size = m.output_offset + len(data)
        grown.append((pk, m.output_offset, m.output))
    for pk, end in results:
        output, cut = cut_utf8(end.output, OUTPUT_LIMIT)
        logs[pk] = ExecutionLog(
            execution_id=pk,
            output=output,
            error_msg=tail_utf8(end.error, ERROR_LIMIT)[0],
            truncated=cut or end.truncated,
            size=max(end.output_size, len(end.output.encode("utf-8", "replace"))),
        )
    for entry in logs.values():
        # PostgreSQL stores no NUL in text.
        entry.output = entry.output.replace("\0", "�")
        entry.error_msg = entry.error_msg.replace("\0", "�")
    ExecutionLog.objects.bulk_create(
        logs.values(),
        update_conflicts=True,
        update_fields=["output", "error_msg", "truncated", "size"],
        unique_fields=["execution"],
    )
    return grown
