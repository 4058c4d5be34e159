"""The console's list of tasks: its columns, filters and row menus."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, Prefetch, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from executions_app.models import Execution
from groups_app.models import Group
from quartzflow.console.base import ObjectPermissionAdmin, pill
from quartzflow.console.views import ListViewAdmin
from quartzflow.execution_status import ExecutionStatus
from quartzflow.templatetags.console import icon, moment

from .. import selectors
from ..choices import ExecutorType, ScheduleType, TaskStatus
from ..models import Task
from .filters import GroupFilter, LabelFilter, OwnerFilter

SHOWN_GROUPS = 2
EXECUTOR_ICONS = {ExecutorType.SHELL: "terminal", ExecutorType.HTTP: "globe", ExecutorType.PLUGIN: "plug"}


class TaskListAdmin(ListViewAdmin, ObjectPermissionAdmin):
    """The list; what one can do to tasks is in TaskAdmin."""

    section = "work"
    icon = "calendar-clock"
    nav_order = 10
    nav_label = _lazy("Tasks")
    add_title = _lazy("New task")
    empty_icon = "calendar-clock"
    empty_title = _lazy("No tasks yet")
    empty_text = _lazy(
        "A task says what runs, when, and on which groups of hosts. Make the first one; it takes a minute."
    )
    change_list_template = "console/task_list.html"
    row_permissions = ("change", "delete", "trigger", "add")

    list_display = (
        "name_cell",
        "executor_cell",
        "schedule_cell",
        "groups_cell",
        "labels_cell",
        "owner_cell",
        "status_cell",
        "last_cell",
        "next_cell",
        "row_menu",
    )
    fixed_columns = ("name_cell", "row_menu")
    hidden_first = ("labels_cell", "owner_cell")
    list_display_links = None
    list_filter = ("status", GroupFilter, "executor_type", "schedule_type", LabelFilter, OwnerFilter)
    search_fields = ("name", "description")
    search_help_text = _lazy("Name, description, or label=value")
    actions = ("enable_selected", "disable_selected", "run_selected", "delete_selected")
    # What a batch action asks before it is done.
    confirmations = {
        "disable_selected": _lazy(
            "Disable %(count)s tasks? They will not fire until they are enabled again."
        ),
        "run_selected": _lazy("Run %(count)s tasks now on all of their hosts?"),
        "delete_selected": _lazy(
            "Delete %(count)s tasks? Their history stays; what runs of them is stopped."
        ),
    }

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        newest = Execution.objects.filter(task=OuterRef("pk")).order_by("-id").values("pk")[:1]
        groups = Prefetch("groups", queryset=Group.objects.only("name"))
        tasks = super().get_queryset(request).select_related("owner").prefetch_related(groups)
        return tasks.annotate(last_id=Subquery(newest))  # type: ignore[no-any-return]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        chosen = len(request.GET.get("id__in", "").split(",")) if request.GET.get("id__in") else 0
        return super().changelist_view(request, {"chosen_tasks": chosen, **(extra_context or {})})

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet, search_term: str
    ) -> tuple[QuerySet, bool]:
        name, equals, value = search_term.strip().partition("=")
        if equals and name.strip():
            return selectors.with_label(queryset, name.strip(), value.strip()), False
        return super().get_search_results(request, queryset, search_term)

    def prepare_rows(self, request: HttpRequest, rows: list[Any]) -> None:
        last = Execution.objects.only("status", "scheduled_time").in_bulk(
            [row.last_id for row in rows if row.last_id]
        )
        for row in rows:
            row.last = last.get(row.last_id)
            row.next_fire = selectors.next_fire_time(row)

    @admin.display(description=_lazy("Task name"), ordering="name")
    def name_cell(self, task: Any) -> str:
        url = reverse("admin:tasks_app_task_detail", args=[task.pk])
        return format_html(
            '<a class="cell-main" href="{}">{}</a><span class="cell-sub">{}</span>',
            url,
            task.name,
            task.description,
        )

    @admin.display(description=_lazy("Executor"), ordering="executor_type")
    def executor_cell(self, task: Task) -> str:
        executor = ExecutorType(task.executor_type)
        return format_html(
            '<span class="cell-icon">{}{}</span>', icon(EXECUTOR_ICONS[executor]), executor.label
        )

    @admin.display(description=_lazy("Schedule"), ordering="cron_expr")
    def schedule_cell(self, task: Task) -> str:
        if task.schedule_type == ScheduleType.CRON:
            return format_html(
                '<code class="nowrap" data-cron="{}">{}</code><span class="cell-sub">{}</span>',
                task.cron_expr,
                task.cron_expr,
                task.timezone,
            )
        if task.schedule_type == ScheduleType.ONCE:
            return moment(task.run_at)
        return format_html('<span class="nowrap">{}</span>', task.schedule_text())

    @admin.display(description=_lazy("Groups"))
    def groups_cell(self, task: Task) -> str:
        if task.is_global:
            return format_html('<span class="tag">{}</span>', _("Every host"))
        groups = [group.name for group in task.groups.all()]
        shown = format_html_join(
            "", '<span class="tag">{}</span>', ((name,) for name in groups[:SHOWN_GROUPS])
        )
        rest = groups[SHOWN_GROUPS:]
        more = (
            format_html('<span class="tag" title="{}">+{}</span>', ", ".join(rest), len(rest)) if rest else ""
        )
        return format_html('<span class="tags">{}{}</span>', shown, more)

    @admin.display(description=_lazy("Labels"))
    def labels_cell(self, task: Task) -> str:
        tags = ((f"{name}={value}",) for name, value in task.labels.items())
        return format_html(
            '<span class="tags">{}</span>', format_html_join("", '<span class="tag">{}</span>', tags)
        )

    @admin.display(description=_lazy("Owner"), ordering="owner__username")
    def owner_cell(self, task: Task) -> str:
        return task.owner.get_username() if task.owner else task.created_by or "—"

    @admin.display(description=_lazy("Status"), ordering="status")
    def status_cell(self, task: Any) -> str:
        """For whoever may change the task a switch; switching off asks, as the menu does."""
        label = TaskStatus(task.status).label
        if "change" not in task.may:
            return pill("success" if task.is_enabled else "pending", label)
        url = reverse(f"admin:tasks_app_task_{'disable' if task.is_enabled else 'enable'}", args=[task.pk])
        asks = (
            format_html(' data-confirm="{}" data-confirm-label="{}"', ask_to_disable(task), _("Disable"))
            if task.is_enabled
            else ""
        )
        return format_html(
            '<span class="switch-line"><button type="submit" role="switch" class="switch" form="row-action-form"'
            ' formaction="{}" aria-checked="{}" aria-label="{}"{}></button><span class="small">{}</span></span>',
            url,
            "true" if task.is_enabled else "false",
            _("Enable “%(name)s”") % {"name": task.name},
            asks,
            label,
        )

    @admin.display(description=_lazy("Last execution"))
    def last_cell(self, task: Any) -> str:
        if task.last is None:
            return format_html('<span class="muted" data-last-of="{}">{}</span>', task.pk, _("never"))
        status = ExecutionStatus(task.last.status)
        link = reverse("admin:executions_app_execution_change", args=[task.last.pk])
        shown = pill(status.color, status.label, status=status.value, execution=task.last.pk)
        when = moment(task.last.scheduled_time, "ago")
        return format_html(
            '<a class="last-execution" data-last-of="{}" href="{}">{} <small class="muted">{}</small></a>',
            task.pk,
            link,
            shown,
            when,
        )

    @admin.display(description=_lazy("Next fire time"))
    def next_cell(self, task: Any) -> str:
        return format_html(
            '<span class="nowrap" data-next-of="{}">{}</span>', task.pk, moment(task.next_fire, "two")
        )

    def menu_items(self, task: Any, may: set[str]) -> list[dict[str, Any]]:
        edit = reverse("admin:tasks_app_task_change", args=[task.pk])
        history = f"{reverse('admin:executions_app_execution_changelist')}?task__id__exact={task.pk}"
        detail = reverse("admin:tasks_app_task_detail", args=[task.pk])
        items: list[dict[str, Any]] = []
        if "trigger" in may:
            items.append(
                {
                    "label": _("Run now"),
                    "icon": "play",
                    "post": reverse("admin:tasks_app_task_run", args=[task.pk]),
                }
            )
        if "change" in may and task.is_enabled:
            items.append(
                {
                    "label": _("Disable"),
                    "icon": "pause",
                    "post": reverse("admin:tasks_app_task_disable", args=[task.pk]),
                    "confirm": ask_to_disable(task),
                }
            )
        elif "change" in may:
            items.append(
                {
                    "label": _("Enable"),
                    "icon": "power",
                    "post": reverse("admin:tasks_app_task_enable", args=[task.pk]),
                }
            )
        items.append({"label": _("View"), "icon": "eye", "url": detail})
        if "change" in may:
            items.append({"label": _("Edit"), "icon": "pencil", "url": edit})
        if "add" in may:
            copy = f"{reverse('admin:tasks_app_task_add')}?like={task.pk}"
            items.append({"label": _("Copy"), "icon": "copy", "url": copy})
        items.append({"label": _("Execution history"), "icon": "history", "url": history})
        versions = reverse("admin:tasks_app_task_versions", args=[task.pk])
        items.append({"label": _("Versions"), "icon": "archive", "url": versions})
        if "delete" in may:
            ask = _("Delete “%(name)s”? Its history stays; what runs of it is stopped.") % {"name": task.name}
            remove = reverse("admin:tasks_app_task_remove", args=[task.pk])
            items += [
                {"line": True},
                {"label": _("Delete"), "icon": "trash-2", "post": remove, "confirm": ask, "danger": True},
            ]
        return items


def ask_to_disable(task: Task) -> str:
    return _("Disable “%(name)s”? It will not fire until it is enabled again.") % {"name": task.name}
