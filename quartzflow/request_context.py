"""Who is asking from where, at hand for logs and audit without being passed through every call."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import structlog
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from quartzflow_agent.schedule import uuid7

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}\Z")


@dataclass(frozen=True)
class RequestContext:
    """The request that is being served; empty outside of one (commands, Celery, the bridge)."""

    request_id: str = ""
    address: str = ""
    request: HttpRequest | None = None

    @property
    def user(self) -> User | None:
        """Who asks: by session, or by token once the API has looked at it."""
        user = getattr(self.request, "user", None)
        return user if isinstance(user, User) else None


_current: ContextVar[RequestContext | None] = ContextVar("request_context", default=None)


def current() -> RequestContext:
    return _current.get() or RequestContext()


@contextmanager
def acting_from(address: str) -> Iterator[None]:
    """What is done within was asked for from there: no request, but a command."""
    token = _current.set(RequestContext(address=address))
    try:
        yield
    finally:
        _current.reset(token)


class RequestContextMiddleware:
    """Gives every request an id, the caller's own (X-Request-ID) where it has a sane one, and answers with it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Request-ID", "")
        request_id = given if REQUEST_ID.match(given) else uuid7()
        # daphne has put the proxy's client address there where it was told to trust one.
        context = RequestContext(request_id, request.META.get("REMOTE_ADDR", "") or "", request)
        token = _current.set(context)
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                response = self.get_response(request)
            finally:
                _current.reset(token)
        response.headers["X-Request-ID"] = request_id
        return response
