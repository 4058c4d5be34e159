"""The console's import and export of tasks: a file, what it would change, and only then the change."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from django import forms
from django.contrib import messages
from django.core.cache import cache
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from executions_app import control
from quartzflow.console.base import who
from quartzflow.errors import InvalidInput, QuartzError

from ..exchange import Outcome, counts, export_tasks, read_tasks
from ..formats import FORMATS, MAX_BYTES, SUFFIXES

KEPT = 30 * 60  # seconds between the preview and the change
SHOWN = 200  # rows of a preview; those that are refused come first


class ImportForm(forms.Form):
    """A file. What it holds is checked by tasks_app.exchange."""

    file = forms.FileField(
        label=_lazy("File"),
        help_text=_lazy("JSON, YAML or Excel (.xlsx), as an export writes it; at most 5 MB."),
        widget=forms.FileInput(attrs={"accept": ",".join(SUFFIXES)}),
    )
    force = forms.BooleanField(label=_lazy("Change tasks although they are executing"), required=False)

    def clean_file(self) -> Any:
        file = self.cleaned_data["file"]
        if Path(file.name).suffix.lower() not in SUFFIXES:
            raise forms.ValidationError(_("Its name must end in .json, .yaml or .xlsx."))
        if file.size > MAX_BYTES:
            raise forms.ValidationError(
                _("The file is larger than %(size)s MB.") % {"size": MAX_BYTES // 1024 // 1024}
            )
        return file


class TaskExchangeAdmin:
    """Pages beside those of TaskAdmin, which this is mixed into."""

    admin_site: Any
    opts: Any
    has_view_permission: Any
    has_add_permission: Any
    has_change_permission: Any
    get_changelist_instance: Any

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        urls: list[URLPattern] = super().get_urls()  # type: ignore[misc]
        return [
            path("import/", wrap(self.import_view), name="tasks_app_task_import"),
            path("export/", wrap(self.export_view), name="tasks_app_task_export"),
            *urls,
        ]

    def export_view(self, request: HttpRequest) -> HttpResponse:
        """POST `format`, with the list's query: the tasks that the list shows with it, as a file."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_view_permission(request):
            raise PermissionDenied
        name = request.POST.get("format", "")
        try:
            if name not in FORMATS:
                raise InvalidInput({"format": [_("One of %(names)s.") % {"names": ", ".join(FORMATS)}]})
            rows = self.get_changelist_instance(request).get_queryset(request).order_by("name")
            data = export_tasks(who(request), rows, name)
        except InvalidInput as error:
            messages.error(request, " ".join(str(text) for texts in error.errors.values() for text in texts))
            return redirect("admin:tasks_app_task_changelist")
        found = FORMATS[name]
        response = HttpResponse(data, content_type=found.media_type)
        file = f"tasks-{timezone.localdate():%Y%m%d}{found.suffix}"
        response["Content-Disposition"] = f'attachment; filename="{file}"'
        return response

    def import_view(self, request: HttpRequest) -> HttpResponse:
        """POST with a file: what it would change. POST with the `key` of that: the change."""
        if not self.has_add_permission(request) and not self.has_change_permission(request):
            raise PermissionDenied
        if request.method == "POST" and "key" in request.POST:
            return self._apply(request)
        form = ImportForm(request.POST or None, request.FILES or None)
        context: dict[str, Any] = {}
        if request.method == "POST" and form.is_valid():
            file, force = form.cleaned_data["file"], form.cleaned_data["force"]
            data, name = file.read(), SUFFIXES[Path(file.name).suffix.lower()]
            try:
                rows = read_tasks(data, name)
                outcomes = control.do_import_tasks(who(request), rows, dry_run=True, force=force)
            except InvalidInput as error:
                for text in [text for texts in error.errors.values() for text in texts]:
                    form.add_error("file", str(text))
            except QuartzError as error:
                form.add_error("file", str(error.message))
            else:
                key = secrets.token_urlsafe(16)
                cache.set(self._name(request, key), (data, name, force), KEPT)
                context = self._preview(outcomes) | {"key": key, "file_name": file.name}
        return self._page(request, form, context)

    def _apply(self, request: HttpRequest) -> HttpResponse:
        place = self._name(request, request.POST["key"])
        kept = cache.get(place)
        if kept is None:
            messages.error(request, _("The preview is too old. Choose the file again."))
            return redirect("admin:tasks_app_task_import")
        data, name, force = kept
        try:
            outcomes = control.do_import_tasks(
                who(request), read_tasks(data, name), dry_run=False, force=force
            )
        except QuartzError as error:
            messages.error(request, str(error.message))
            return redirect("admin:tasks_app_task_import")
        if any(outcome.errors for outcome in outcomes):  # of what changed since the preview
            return self._page(request, ImportForm(), self._preview(outcomes))
        cache.delete(place)
        text = _("Imported: %(created)s created, %(changed)s changed, %(unchanged)s unchanged.")
        messages.success(request, text % counts(outcomes))
        return redirect("admin:tasks_app_task_changelist")

    def _preview(self, outcomes: list[Outcome]) -> dict[str, Any]:
        order = {"refused": 0, "changed": 1, "created": 2, "unchanged": 3}
        rows = sorted(outcomes, key=lambda outcome: (order[outcome.action], outcome.number))
        return {"rows": rows[:SHOWN], "hidden": len(rows[SHOWN:]), "counts": counts(outcomes)}

    def _name(self, request: HttpRequest, key: str) -> str:
        return f"task-import:{who(request).pk}:{key[:64]}"

    def _page(self, request: HttpRequest, form: ImportForm, context: dict[str, Any]) -> HttpResponse:
        context |= {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": _("Import tasks"),
            "form": form,
        }
        return TemplateResponse(request, "console/task_import.html", context)
