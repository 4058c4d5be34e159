"""GET /api/v1/executions/<id>/logs/full: the whole output, streamed from the agent that keeps it."""

import re
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from executions_app.full_log import FullLog
from executions_app.models import Execution
from executions_app.selectors import executions_for, may_read_log
from quartzflow.api.requests import get_or_404, user_of
from quartzflow.errors import InvalidInput, NotAllowed, QuartzError


class _Gate(APIView):
    """The API's authentication, permissions and errors, which REST framework has for synchronous views only."""

    def enter(self, request: HttpRequest, pk: str) -> FullLog:
        """Raises what `leave` turns into a response."""
        self.setup(request, pk=pk)
        self.headers: dict[str, str] = {}
        self.request: Request = self.initialize_request(request, pk=pk)
        self.initial(self.request, pk=pk)
        if request.method not in ("GET", "HEAD"):
            self.http_method_not_allowed(self.request)
        user = user_of(self.request)
        execution: Execution = get_or_404(executions_for(user), pk)
        if not may_read_log(user, execution):
            raise NotAllowed
        return FullLog(execution, offset=_bytes(self.request, "offset"), limit=_bytes(self.request, "limit"))

    def leave(self, error: Exception) -> Response:
        """An error as the API answers it."""
        response = self.finalize_response(self.request, self.handle_exception(error))
        response.render()
        return response


def _bytes(request: Request, name: str) -> int:
    text = request.query_params.get(name, "0")
    if not re.fullmatch(r"\d{1,18}", text, re.ASCII):
        raise InvalidInput({name: [_("A number of bytes.")]})
    return int(text)


@csrf_exempt  # the gate checks what has to be checked
async def full_log(request: HttpRequest, pk: str) -> HttpResponseBase:
    """`?offset=…&limit=…`, in bytes. X-Total is the size of the whole log; Content-Length that of this part."""
    gate = _Gate()

    def enter() -> Any:
        try:
            return gate.enter(request, pk)
        except Exception as error:
            return gate.leave(error)

    log = await sync_to_async(enter)()
    if not isinstance(log, FullLog):
        return log  # type: ignore[no-any-return]
    try:
        await log.open()
    except QuartzError as error:
        return await sync_to_async(gate.leave)(error)
    response = StreamingHttpResponse(log.stream(), content_type="text/plain; charset=utf-8")
    response["Content-Length"] = str(log.size)
    response["X-Total"] = str(log.total)
    response["X-Offset"] = str(log.offset)
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Disposition"] = f'attachment; filename="{log.execution.pk}.log"'
    response["Cache-Control"] = "no-store"
    return response
