"""The product's errors: one small tree; quartzflow.api.errors turns them into JSON in one place."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.utils.translation import gettext_lazy as _


class QuartzError(Exception):
    """Base of everything that is the caller's to mend."""

    code = 1000
    http_status = 400
    default_message: Any = _("The request cannot be served.")

    def __init__(self, message: Any = None) -> None:
        self.message = message or self.default_message
        super().__init__(self.message)


class InvalidInput(QuartzError):
    """One or more fields are wrong. `errors` maps each field to what is wrong with it."""

    code = 1001
    default_message = _("Some fields are not valid.")

    def __init__(self, errors: Mapping[str, Sequence[Any]], message: Any = None) -> None:
        super().__init__(message)
        self.errors: dict[str, list[Any]] = {field: list(texts) for field, texts in errors.items()}


class NotFound(QuartzError):
    """There is no such object, or the caller may not know of it."""

    code = 1004
    http_status = 404
    default_message = _("There is no such object.")


class NotAllowed(QuartzError):
    """The caller may see the object but not do this to it."""

    code = 1003
    http_status = 403
    default_message = _("You do not have permission to do this.")


class Conflict(QuartzError):
    """The object's state forbids it now."""

    code = 1009
    http_status = 409
    default_message = _("The state of the object does not allow this now.")


class PreconditionFailed(QuartzError):
    """The caller's If-Match names another version than the object's present one."""

    code = 1012
    http_status = 412
    default_message = _("It was changed meanwhile. Load it again, and make your change to what it is now.")


class TooLarge(QuartzError):
    """More than the server reads at once."""

    code = 1013
    http_status = 413
    default_message = _("The request is too large.")
