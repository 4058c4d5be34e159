"""One line an event, on stderr or in a file: time, level, event, key=value. No secrets."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from datetime import datetime, timezone
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Optional

from quartzflow_agent.files import PRIVATE_FILE

FILE_SIZE = 10 * 1024 * 1024  # bytes of one log file
FILES_KEPT = 5  # beside the one that is written

_PLAIN = re.compile(r"[^\s\"=\\]+")


def event(name: str, **fields: Any) -> str:
    """`name key=value …`; what is not one plain word is quoted as JSON, so a line stays a line."""
    return " ".join([name, *(f"{key}={_value(value)}" for key, value in fields.items())])


def _value(value: Any) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, timezone.utc)
        line = f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z {record.levelname} {record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _PrivateFile(RotatingFileHandler):
    """Readable by its owner alone, also after it has been rotated."""

    def _open(self) -> TextIOWrapper:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, PRIVATE_FILE)
        return os.fdopen(descriptor, "a", encoding="utf-8")


def configure(level: str, file: Optional[Path] = None) -> None:
    """Send the agent's log to stderr, or to a file that is rotated. level: a name of logging's. Raises OSError."""
    handler: logging.Handler
    if file is None:
        handler = logging.StreamHandler(sys.stderr)
    else:
        handler = _PrivateFile(file.expanduser().absolute(), maxBytes=FILE_SIZE, backupCount=FILES_KEPT)
    handler.setFormatter(_Formatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("quartzflow_agent").setLevel(level)
