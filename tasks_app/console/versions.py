"""The console's page of a task's versions: what changed, and going back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext as _

from executions_app import control
from quartzflow.console.base import who
from quartzflow.errors import Conflict, InvalidInput, NotFound

from ..actions import is_executing
from ..models import Task, TaskVersion
from ..versions import Change, compare, get_version, versions_of

PAGE = 25


class TaskVersionsAdmin:
    """Pages beside those of TaskAdmin, which this is mixed into."""

    admin_site: Any
    opts: Any
    access: Any
    may: Any
    post_view: Callable[..., HttpResponse]

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        urls: list[URLPattern] = super().get_urls()  # type: ignore[misc]
        return [
            path("<path:object_id>/versions/", wrap(self.versions_view), name="tasks_app_task_versions"),
            path(
                "<path:object_id>/versions/<int:number>/restore/",
                wrap(self.restore_view),
                name="tasks_app_task_restore",
            ),
            *urls,
        ]

    def versions_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """?from=1&to=3: the versions, and what differs between two."""
        task = self.access(request, object_id)
        page = Paginator(versions_of(task), PAGE).get_page(request.GET.get("page"))
        before, after, changes = self._compared(request, task)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": _("Versions of “%(name)s”") % {"name": task.name},
            "task": task,
            "page": page,
            "newest": versions_of(task).first(),
            "before": before,
            "after": after,
            "changes": changes,
            "executing": is_executing(task),
            "may_change": self.may(request, task, "change"),
        }
        return TemplateResponse(request, "console/task_versions.html", context)

    def _compared(
        self, request: HttpRequest, task: Task
    ) -> tuple[TaskVersion | None, TaskVersion | None, list[Change]]:
        """What the address asks for; by default the newest version and the one before it."""
        numbers = list(versions_of(task).values_list("number", flat=True)[:2])
        asked = [request.GET.get(name, "") for name in ("from", "to")]
        if all(text.isascii() and text.isdigit() and len(text) < 10 for text in asked):
            numbers = [int(asked[1]), int(asked[0])]
        if len(numbers) < 2:
            return None, None, []
        try:
            before, after = get_version(task, numbers[1]), get_version(task, numbers[0])
        except NotFound as error:
            messages.error(request, str(error.message))
            return None, None, []
        return before, after, compare(who(request), before.definition, after.definition)

    def restore_view(self, request: HttpRequest, object_id: str, number: int) -> HttpResponse:
        """POST: go back to a version; with ?force=1 although the task is executing."""

        def restore(request: HttpRequest, task: Task) -> dict[str, Any]:
            try:
                control.do_restore_task(who(request), task, number, force=request.GET.get("force") == "1")
            except InvalidInput as error:  # the names of what is gone, not those of fields
                texts = [str(text) for texts in error.errors.values() for text in texts]
                raise Conflict(" ".join(texts)) from error
            text = _("“%(name)s” is as it was at version %(number)s.")
            return {"message": text % {"name": task.name, "number": number}, "reload": True}

        answer: HttpResponse = self.post_view(request, object_id, restore, "change")
        return answer
