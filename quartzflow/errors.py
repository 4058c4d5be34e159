"""The product's errors: one small tree; quartzflow.api.errors turns them into JSON in one place."""

from collections.abc import Mapping, Sequence
from enum import IntEnum, unique
from typing import Any

from django.utils.translation import gettext_lazy as _


@unique
class Code(IntEnum):
    """What kind of error an answer of the API tells of; docs/api.md says what each means. None is ever used again."""

    OTHER = 1000
    INVALID_INPUT = 1001
    NOT_AUTHENTICATED = 1002
    NOT_ALLOWED = 1003
    NOT_FOUND = 1004
    METHOD_NOT_ALLOWED = 1005
    NOT_ACCEPTABLE = 1006
    CONFLICT = 1009
    AGENT_OFFLINE = 1010
    LOG_GONE = 1011
    PRECONDITION_FAILED = 1012
    TOO_LARGE = 1013
    REPORT_GONE = 1014
    UNSUPPORTED_MEDIA_TYPE = 1015
    SEARCH_TOO_LONG = 1016
    NO_ANSWER = 1017
    LOG_TOO_LARGE = 1018
    TOO_MANY_REQUESTS = 1029


class QuartzError(Exception):
    """Base of everything that is the caller's to mend."""

    code = Code.OTHER
    http_status = 400
    default_message: Any = _("The request cannot be served.")

    def __init__(self, message: Any = None) -> None:
        self.message = message or self.default_message
        super().__init__(self.message)


class InvalidInput(QuartzError):
    """One or more fields are wrong. `errors` maps each field to what is wrong with it."""

    code = Code.INVALID_INPUT
    default_message = _("Some fields are not valid.")

    def __init__(self, errors: Mapping[str, Sequence[Any]], message: Any = None) -> None:
        super().__init__(message)
        self.errors: dict[str, list[Any]] = {field: list(texts) for field, texts in errors.items()}


class NotFound(QuartzError):
    """There is no such object, or the caller may not know of it."""

    code = Code.NOT_FOUND
    http_status = 404
    default_message = _("There is no such object.")


class NotAllowed(QuartzError):
    """The caller may see the object but not do this to it."""

    code = Code.NOT_ALLOWED
    http_status = 403
    default_message = _("You do not have permission to do this.")


class Conflict(QuartzError):
    """The object's state forbids it now."""

    code = Code.CONFLICT
    http_status = 409
    default_message = _("The state of the object does not allow this now.")


class PreconditionFailed(QuartzError):
    """The caller's If-Match names another version than the object's present one."""

    code = Code.PRECONDITION_FAILED
    http_status = 412
    default_message = _("It was changed meanwhile. Load it again, and make your change to what it is now.")


class TooLarge(QuartzError):
    """More than the server reads at once."""

    code = Code.TOO_LARGE
    http_status = 413
    default_message = _("The request is too large.")
