"""The output of executions: the start of it is kept, the rest stays with the agent (FR-4.2)."""

from collections.abc import Collection, Sequence

from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.protocol.constants import ERROR_LIMIT, OUTPUT_LIMIT
from quartzflow_agent.protocol.text import cut_utf8, tail_utf8

from .models import ExecutionLog


def save_outputs(
    increments: Sequence[tuple[int, task_pb2.TaskProgress]],
    results: Sequence[tuple[int, task_pb2.TaskResult]],
    begun: Collection[int] = (),
) -> list[tuple[int, int, str]]:
    """Keep the start of every output; each message comes with the primary key of its execution.

    begun: executions of which a further attempt has just begun, with an output of its own.
    Returns the increments that pages should see: (pk, byte offset, text). They may overlap: after a new connection an
    agent tells its outputs again from their beginning, since nobody can know what arrived.
    """
    grown: list[tuple[int, int, str]] = []
    pks = {pk for pk, _ in (*increments, *results)} | set(begun)
    logs = {row.pk: row for row in ExecutionLog.objects.filter(pk__in=pks)} if pks else {}
    for pk in begun:
        logs[pk] = ExecutionLog(execution_id=pk)
    for pk, m in increments:
        entry = logs.setdefault(pk, ExecutionLog(execution_id=pk))
        data = m.output.encode("utf-8", "replace")
        held, end_at = len(entry.output.encode()), m.output_offset + len(data)
        if end_at <= held:
            continue  # stored, and so seen, before
        # What lies behind a gap is not stored: the gap is filled by what comes again, or by the result.
        if 0 <= m.output_offset <= held and not entry.truncated:
            fresh = data[held - m.output_offset :].decode("utf-8", "replace")
            entry.output, entry.truncated = cut_utf8(entry.output + fresh, OUTPUT_LIMIT)
        entry.size = max(entry.size, end_at)
        grown.append((pk, m.output_offset, m.output))
    for pk, end in results:
        output, cut = cut_utf8(end.output, OUTPUT_LIMIT)
        if end.output_size and not output and pk in logs:
            output = logs[pk].output  # sent again when the host's log is gone: what we have is all there is
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
        entry.indexed_at = None
    ExecutionLog.objects.bulk_create(
        logs.values(),
        update_conflicts=True,
        update_fields=["output", "error_msg", "truncated", "size", "indexed_at"],
        unique_fields=["execution"],
    )
    return grown
