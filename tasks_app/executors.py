"""What the configuration of each executor holds, and its check (FR-1.1)."""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from django.utils.translation import gettext as _

from .choices import ExecutorType
from .substitutions import DEFAULTS, check_placeholders

MAX_TEXT = 64 * 1024
MAX_PATTERN = 1000  # characters
# What a Shell task's processes may be limited in, each of them.
LIMITS = frozenset({"cpu_seconds", "memory_mb", "open_files", "processes", "file_mb"})
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")
PARAM_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}\Z")
HTTP_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


class _Wrong(Exception):
    """The value's fault, in words."""


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Wrong(_("Must be text."))
    if "\0" in value:
        raise _Wrong(_("Must not contain NUL."))
    if len(value.encode()) > MAX_TEXT:
        raise _Wrong(_("At most 64 KB."))
    return value


def _line(given: Any) -> str:
    value = _text(given).strip()
    if "\n" in value or "\r" in value:
        raise _Wrong(_("Must be one line."))
    return value


def _path(given: Any) -> str:
    value = _line(given)
    if value and not value.startswith(("/", "~")):
        raise _Wrong(_("Must be an absolute path."))
    return value


def _named_texts(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise _Wrong(_("Must be an object of names and values."))
    for name, text in value.items():
        if not isinstance(name, str) or not name:
            raise _Wrong(_("Names must be text."))
        if not isinstance(text, str) or "\0" in text:
            raise _Wrong(_("The value of %(name)s must be text.") % {"name": name})
    return value


def _environment(given: Any) -> dict[str, str]:
    value = _named_texts(given)
    for name in value:
        if not ENV_NAME.match(name):
            raise _Wrong(_("%(name)s is no name for an environment variable.") % {"name": name})
        if name.startswith("QF_"):
            raise _Wrong(_("%(name)s: names that begin with QF_ are set by Quartz-Flow.") % {"name": name})
    return value


def _parameters(given: Any) -> dict[str, str]:
    value = _named_texts(given)
    for name in value:
        if not PARAM_NAME.match(name):
            raise _Wrong(
                _("%(name)s: a name has letters, digits and underscores and begins with a letter.")
                % {"name": name}
            )
    if len({name.upper() for name in value}) < len(value):
        raise _Wrong(_("Two names differ only in upper and lower case."))
    return value


def _headers(given: Any) -> dict[str, str]:
    value = _named_texts(given)
    for name, text in value.items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or "\n" in text or "\r" in text:
            raise _Wrong(_("%(name)s is no valid header.") % {"name": name})
    return value


def _url(given: Any) -> str:
    value = _line(given)
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _Wrong(_("Must be an http:// or https:// address."))
    return value


def _method(given: Any) -> str:
    value = _line(given).upper()
    if value not in HTTP_METHODS:
        raise _Wrong(_("One of %(methods)s.") % {"methods": ", ".join(HTTP_METHODS)})
    return value


def _statuses(value: Any) -> list[int]:
    if not isinstance(value, list) or not all(isinstance(code, int) and 100 <= code <= 599 for code in value):
        raise _Wrong(_("Must be a list of HTTP status codes."))
    return value


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Wrong(_("Must be true or false."))
    return value


def _umask(given: Any) -> str:
    value = _line(given)
    if value and not re.fullmatch(r"0?[0-7]{3}", value):
        raise _Wrong(_("Must be three octal digits, such as 022."))
    return value


def _nice(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= 19:
        raise _Wrong(_("Must be a whole number from 0 to 19."))
    return value


def _limits(value: Any) -> dict[str, int]:
    if not isinstance(value, dict):
        raise _Wrong(_("Must be an object of names and values."))
    for name, most in value.items():
        if name not in LIMITS:
            raise _Wrong(
                _("%(name)s is none of %(names)s.") % {"name": name, "names": ", ".join(sorted(LIMITS))}
            )
        if type(most) is not int or not 1 <= most < 10**9:
            raise _Wrong(_("%(name)s must be a whole number, 1 or more.") % {"name": name})
    return value


def _auth(given: Any) -> dict[str, str]:
    value = _named_texts(given)
    if set(value) not in ({"username", "password"}, {"token"}):
        raise _Wrong(_("Must have username and password, or token."))
    for name, text in value.items():
        if any(char < " " or char == "\x7f" for char in text) or (name == "username" and ":" in text):
            raise _Wrong(_("%(name)s has characters that cannot be sent.") % {"name": name})
    return value


def _pattern(given: Any) -> str:
    value = _text(given)
    if len(value) > MAX_PATTERN:
        raise _Wrong(_("At most %(count)s characters.") % {"count": MAX_PATTERN})
    try:
        re.compile(value)
    except (re.error, RecursionError, OverflowError) as error:
        raise _Wrong(_("No regular expression: %(error)s.") % {"error": error}) from error
    return value


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Wrong(_("Must be an object of names and values."))
    return value


# executor → key → (required, check); everything that is not here is refused.
KEYS: dict[ExecutorType, dict[str, tuple[bool, Callable[[Any], Any]]]] = {
    ExecutorType.SHELL: {
        "command": (True, _text),
        "interpreter": (False, _line),
        "work_dir": (False, _path),
        "env": (False, _environment),
        "run_as": (False, _line),
        "umask": (False, _umask),
        "nice": (False, _nice),
        "limits": (False, _limits),
        DEFAULTS: (False, _parameters),
    },
    ExecutorType.HTTP: {
        "url": (True, _url),
        "method": (False, _method),
        "headers": (False, _headers),
        "body": (False, _text),
        "auth": (False, _auth),
        "follow_redirects": (False, _boolean),
        "expected_status": (False, _statuses),
        "expected_body": (False, _pattern),
        "verify_tls": (False, _boolean),
        DEFAULTS: (False, _parameters),
    },
    ExecutorType.PLUGIN: {
        "plugin": (True, _line),
        "params": (False, _object),
        DEFAULTS: (False, _parameters),
    },
}


def check_executor_config(executor: ExecutorType, config: Any) -> tuple[dict[str, Any], list[str]]:
    """The cleaned configuration (empty values left out) and what is wrong with it, each text naming the key."""
    if not isinstance(config, dict):
        return {}, [_("Must be an object, such as %(example)s.") % {"example": '{"command": "date"}'}]
    keys = KEYS[executor]
    cleaned: dict[str, Any] = {}
    wrong = [
        _("%(key)s: unknown; %(executor)s knows %(keys)s.")
        % {"key": key, "executor": executor.label, "keys": ", ".join(keys)}
        for key in config
        if key not in keys
    ]
    for key, (required, check) in keys.items():
        value = config.get(key)
        if value in (None, "", {}, []):
            if required:
                wrong.append(_("%(key)s: required.") % {"key": key})
            continue
        try:
            cleaned[key] = check(value)
        except _Wrong as error:
            wrong.append(f"{key}: {error}")
            continue
        if required and isinstance(value, str) and not value.strip():
            wrong.append(_("%(key)s: required.") % {"key": key})
    if not wrong:
        wrong = check_placeholders(executor, cleaned)
    return cleaned, wrong
