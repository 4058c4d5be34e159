"""Instructions as a quic-flow client understands them (`exec_shell`), and its answers as results."""

import json
import re
import shlex
from typing import Any

from quartzflow_agent.protocol import backbone_pb2 as pb
from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.protocol.constants import ERROR_LIMIT, OUTPUT_LIMIT
from quartzflow_agent.protocol.framing import encode
from quartzflow_agent.protocol.messages import now_ms
from quartzflow_agent.protocol.text import cut_utf8, tail_utf8
from quartzflow_agent.script_text import fill_script, variable
from quartzflow_agent.substitution import PARAMS, Placeholder, SubstitutionError, placeholders, rewrite

MAX_TIMEOUT = 300  # seconds; the client runs nothing for longer
# A quic-flow client gives its handler this long, in seconds, whatever timeout the command has; then it answers this.
HANDLER_TIMEOUT = 30
HANDLER_TIMED_OUT = "processing timeout"
STREAM_LIMIT = 10 * 1024  # bytes to which the client cuts stdout and stderr

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")
SHELLS = ("", "sh", "/bin/sh")
SETTINGS = frozenset({"command", "interpreter", "work_dir", "env", "umask", "parameters"})


class Unsupported(Exception):
    """A quic-flow client cannot run this as it is meant; the message says why."""


def check(instruction: task_pb2.TaskExecution) -> None:
    """Raises Unsupported, and FramingError when the command is over MAX_FRAME."""
    encode(command_frame(instruction, instruction.execution_id))


def command_frame(instruction: task_pb2.TaskExecution, msg_id: str) -> pb.Frame:
    """The COMMAND for an instruction. Raises Unsupported."""
    body = {"command_type": "exec_shell", "payload": shell_payload(instruction)}
    message = pb.DataMessage(
        msg_id=msg_id,
        sender_id="quartzflow",
        type=pb.MESSAGE_TYPE_COMMAND,
        payload=json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"),
        wait_ack=True,
        timestamp=now_ms(),
    )
    return pb.Frame(type=pb.FRAME_TYPE_DATA, payload=message.SerializeToString(), timestamp=message.timestamp)


def shell_payload(instruction: task_pb2.TaskExecution) -> dict[str, Any]:
    """The payload of exec_shell. The client's own `sh -c` gets variables as quoted exports. Raises Unsupported."""
    config = instruction.executor_config
    if instruction.executor_type != task_pb2.SHELL:
        raise Unsupported("a quic-flow client runs shell tasks only")
    if unknown := sorted(name for name in config if name not in SETTINGS):
        raise Unsupported(f"a quic-flow client has no {', '.join(unknown)}")
    if config.get("interpreter", "") not in SHELLS:
        raise Unsupported(f"a quic-flow client runs commands with sh, not with {config['interpreter']}")
    command = config.get("command", "")
    if not command.strip():
        raise Unsupported("command is empty")
    if command.startswith("#!") and not re.match(r"#!\s*(/usr)?/bin/sh\s*(\n|\Z)", command):
        raise Unsupported("a quic-flow client runs commands with sh, whatever their first line says")
    lines = [f"export {name}={shlex.quote(value)}" for name, value in _environment(instruction).items()]
    if umask := config.get("umask", ""):
        lines.append(f"umask {shlex.quote(umask)}")
    text = "\n".join([*lines, _filled(command, _params(instruction))])
    if "\0" in text:
        raise Unsupported("command, parameters and variables must not contain NUL")
    payload: dict[str, Any] = {"command": text, "timeout": min(max(instruction.timeout, 1), MAX_TIMEOUT)}
    if work_dir := config.get("work_dir", ""):
        payload["work_dir"] = work_dir
    return payload


def _environment(instruction: task_pb2.TaskExecution) -> dict[str, str]:
    found: dict[str, str] = {}
    if text := instruction.executor_config.get("env", ""):
        try:
            given = json.loads(text)
        except ValueError:
            given = None
        if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
            raise Unsupported("env must be a JSON object of texts")
        params = _params(instruction)
        found.update({name: _replaced(value, params) for name, value in given.items()})
    found.update({variable(name): value for name, value in _params(instruction).items()})
    for name in found:
        if not NAME.match(name):
            raise Unsupported(f"{name!r} is no name for an environment variable")
    return found | {
        "QF_TASK_ID": instruction.task_id,
        "QF_TASK_NAME": instruction.task_name,
        "QF_EXECUTION_ID": instruction.execution_id,
        "QF_ATTEMPT": str(instruction.attempt),
        "QF_SHARD_INDEX": str(instruction.shard_index),
        "QF_SHARD_TOTAL": str(instruction.shard_total),
    }


def _params(instruction: task_pb2.TaskExecution) -> dict[str, str]:
    """The parameters by their upper-case names, defaults among them."""
    try:
        defaults = json.loads(instruction.executor_config.get("parameters", "") or "{}")
    except ValueError:
        defaults = None
    if not isinstance(defaults, dict) or not all(isinstance(value, str) for value in defaults.values()):
        raise Unsupported("parameters must be a JSON object of texts")
    return {name.upper(): value for given in (defaults, instruction.params) for name, value in given.items()}


def _filled(command: str, params: dict[str, str]) -> str:
    try:
        for one in placeholders(command):
            _value(one, params)
        return fill_script(command, "sh")
    except SubstitutionError as error:
        raise Unsupported(str(error)) from error


def _replaced(text: str, params: dict[str, str]) -> str:
    try:
        return rewrite(text, lambda one: _value(one, params))
    except SubstitutionError as error:
        raise Unsupported(str(error)) from error


def _value(one: Placeholder, params: dict[str, str]) -> str:
    value = params.get(one.name.upper()) if one.namespace == PARAMS else None
    if value is None:
        raise Unsupported(f"{one.text} is not given and has no default")
    return value


def begins_at(instruction: task_pb2.TaskExecution) -> int:
    """When it is to start, Unix ms."""
    return instruction.scheduled_time + instruction.delay_ms


def ended(instruction: task_pb2.TaskExecution, started: int, **fields: Any) -> task_pb2.TaskResult:
    """A result of this instruction, ended now. `started`: Unix ms; 0: never."""
    return task_pb2.TaskResult(
        execution_id=instruction.execution_id,
        task_id=instruction.task_id,
        task_name=instruction.task_name,
        run_id=instruction.run_id,
        scheduled_time=instruction.scheduled_time,
        started_at=started,
        finished_at=now_ms(),
        retry_count=instruction.attempt,
        attempt=instruction.attempt,
        shard_index=instruction.shard_index,
        shard_total=instruction.shard_total,
        **fields,
    )


def failed(instruction: task_pb2.TaskExecution, started: int, error: str) -> task_pb2.TaskResult:
    """It did not come to an exit code."""
    return ended(
        instruction, started, status=task_pb2.FAILURE, failure_reason="executor_error", error=_tail(error)
    )


def timed_out(instruction: task_pb2.TaskExecution, started: int, error: str) -> task_pb2.TaskResult:
    """It took too long."""
    return ended(instruction, started, status=task_pb2.TIMEOUT, failure_reason="timeout", error=_tail(error))


def read_answer(instruction: task_pb2.TaskExecution, started: int, ack: pb.AckMessage) -> task_pb2.TaskResult:
    """The result that a client's ACK tells of."""
    if ack.status == pb.ACK_STATUS_TIMEOUT or ack.error.strip() == HANDLER_TIMED_OUT:
        return timed_out(instruction, started, ack.error or "the client ran out of time")
    try:
        answer = json.loads(ack.result)
    except ValueError:  # also for bytes that are no text
        answer = None
    if not isinstance(answer, dict):
        return failed(instruction, started, ack.error or "the client's answer cannot be read")
    stdout, stderr, message = (_text(answer.get(name)) for name in ("stdout", "stderr", "message"))
    exit_code = answer.get("exit_code")
    if not isinstance(exit_code, int) or isinstance(exit_code, bool) or abs(exit_code) >= 2**31:
        exit_code = None
    succeeded = ack.status == pb.ACK_STATUS_SUCCESS and answer.get("success") is True
    result = ended(instruction, started, status=task_pb2.SUCCESS if succeeded else task_pb2.FAILURE)
    whole = stdout + ("\n" if stdout and stderr and not stdout.endswith("\n") else "") + stderr
    result.output, cut = cut_utf8(whole, OUTPUT_LIMIT)
    result.output_size = len(whole.encode("utf-8", "replace"))
    result.truncated = cut or any(len(text.encode()) >= STREAM_LIMIT for text in (stdout, stderr))
    result.error = _tail(stderr if succeeded else stderr or ack.error or message)
    if exit_code is not None:
        result.has_exit_code = True
        result.exit_code = exit_code
    if not succeeded:
        limit = min(max(instruction.timeout, 1), MAX_TIMEOUT)
        if result.finished_at - started >= limit * 1000:
            result.status, result.failure_reason = task_pb2.TIMEOUT, "timeout"
        else:
            result.failure_reason = "exit_code" if exit_code else "executor_error"
    return result


def _text(value: Any) -> str:
    # Lone surrogates, which JSON can carry, are no UTF-8.
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _tail(text: str) -> str:
    return tail_utf8(_text(text), ERROR_LIMIT)[0]
