"""What the console's pages of alert rules, channels and silences share: a form, its check, a switch, a deletion."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from groups_app.models import Group
from groups_app.selectors import groups_for
from quartzflow.console.base import FormPageAdmin, pill, who
from quartzflow.errors import InvalidInput, QuartzError
from quartzflow.permissions import User, visible
from tasks_app.models import Task

from ..alerts.choices import Scope, Severity
from ..alerts.models import AlertChannel, AlertRule, AlertSilence

SEVERITY_COLORS = {Severity.INFO: "pending", Severity.WARNING: "timeout", Severity.CRITICAL: "failure"}
SHOWN_NAMES = 2  # tasks or groups of a row


class TaskRows(forms.Widget):
    """One input a row, each with a task's name; templates/console draws them."""

    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[str]:
        found = data.getlist(name) if hasattr(data, "getlist") else data.get(name, ())
        return [text.strip() for text in found if text.strip()]


class TaskNames(forms.Field):
    """Tasks by their names."""

    widget = TaskRows

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, **kwargs)


class AlertForm(forms.Form):
    """A form whose meaning the actions check: it takes their errors to its fields."""

    # Field of a body → field of the form, where the names differ.
    renamed: dict[str, str] = {}

    def describe(self) -> None:
        """Tie the help texts to their fields, for screen readers."""
        for name, field in self.fields.items():
            if field.help_text or getattr(field, "explanations", None):
                field.widget.attrs["aria-describedby"] = f"id_{name}_helptext"

    def choose(self, name: str, choices: Iterable[tuple[Any, Any]]) -> None:
        cast(forms.ChoiceField, self.fields[name]).choices = list(choices)

    def data_for_action(self) -> dict[str, Any]:
        raise NotImplementedError

    def take_errors(self, error: InvalidInput) -> None:
        for field, texts in error.errors.items():
            name = self.renamed.get(field, field)
            for text in texts:
                self.add_error(name if name in self.fields else None, str(text))


def cards_of(form: forms.Form, name: str, notes: dict[Any, str] | None = None) -> list[dict[str, Any]]:
    """For console/choice_cards.html: the choices of a field; a card may have a note below its name."""
    chosen = {str(value) for value in form[name].value() or ()}
    choices: Any = cast(forms.ChoiceField, form.fields[name]).choices
    return [
        {
            "value": value,
            "name": label,
            "note": (notes or {}).get(value, ""),
            "checked": str(value) in chosen,
        }
        for value, label in choices
    ]


def channel_notes(channels: Iterable[AlertChannel]) -> dict[Any, str]:
    """What stands below the channels' names on their cards."""
    return {
        channel.pk: str(channel.get_kind_display())
        if channel.is_enabled
        else _("%(kind)s, switched off") % {"kind": channel.get_kind_display()}
        for channel in channels
    }


class ScopeForm(AlertForm):
    """Whom a rule or a silence concerns."""

    scope = forms.ChoiceField(label=_lazy("Concerns"), choices=Scope.choices, widget=forms.RadioSelect)
    task_ids = TaskNames(
        label=_lazy("Tasks"), help_text=_lazy("Begin to write a name and choose one of those offered.")
    )
    group_ids = forms.TypedMultipleChoiceField(
        label=_lazy("Host groups"), coerce=int, required=False, widget=forms.CheckboxSelectMultiple,
        help_text=_lazy("Their hosts, and the tasks that run on them."),
    )  # fmt: skip

    def take_user(self, user: User) -> None:
        self.user = user
        self.groups: list[Any] = list(groups_for(user))
        self.choose("group_ids", [(group.pk, group.name) for group in self.groups])

    @staticmethod
    def scope_of(user: User, row: AlertRule | AlertSilence) -> dict[str, Any]:
        """The initial values of an existing row, with the tasks that the user may see."""
        tasks = visible(user, Task.objects.filter(pk__in=row.tasks.values("pk")))
        return {
            "scope": row.scope,
            "task_ids": sorted(tasks.values_list("name", flat=True)),
            "group_ids": list(row.groups.values_list("pk", flat=True)),
        }

    def clean_task_ids(self) -> list[int]:
        """The names as ids of tasks that the user may see."""
        names = set(self.cleaned_data["task_ids"] or ())
        known = dict(visible(self.user, Task.objects.filter(name__in=names)).values_list("name", "pk"))
        if missing := sorted(names - known.keys()):
            raise forms.ValidationError(
                _("There is no task called %(names)s.") % {"names": ", ".join(missing)}
            )
        return sorted(known.values())

    def scope_data(self) -> dict[str, Any]:
        """As a body has it; what another scope would name is dropped."""
        cleaned = self.cleaned_data
        scope = cleaned["scope"]
        return {
            "scope": scope,
            "task_ids": cleaned["task_ids"] if scope == Scope.TASKS else [],
            "group_ids": cleaned["group_ids"] if scope == Scope.GROUPS else [],
        }

    def group_cards(self) -> list[dict[str, Any]]:
        notes = {
            group.pk: _("%(online)s of %(total)s hosts online")
            % {"online": group.online_count, "total": group.client_count}
            for group in self.groups
        }
        return cards_of(self, "group_ids", notes)


def names_more(user: User, row: AlertRule | AlertSilence) -> bool:
    """Whether the row names tasks, groups or channels that the user may not see: saving the form would drop them."""
    pairs: list[tuple[Any, Any]] = [(row.tasks, Task), (row.groups, Group)]
    if isinstance(row, AlertRule):
        pairs += [(row.channels, AlertChannel), (row.escalation_channels, AlertChannel)]
    return any(
        named.exclude(pk__in=visible(user, model.objects.all()).values("pk")).exists()
        for named, model in pairs
    )


def scope_cell(user_sees: dict[str, set[int]], row: AlertRule | AlertSilence) -> str:
    """Whom it concerns, in a list; names only of what the user may see."""
    if row.scope == Scope.ALL:
        return format_html('<span class="tag">{}</span>', row.get_scope_display())
    rows: list[Any] = list(row.tasks.all() if row.scope == Scope.TASKS else row.groups.all())
    names = [one.name for one in rows if one.pk in user_sees[row.scope]]
    rest = len(rows) - min(len(names), SHOWN_NAMES)
    tags = [(name,) for name in names[:SHOWN_NAMES]] + ([(f"+{rest}",)] if rest else [])
    return format_html(
        '<span class="tags">{}</span><span class="cell-sub">{}</span>',
        format_html_join("", '<span class="tag">{}</span>', tags),
        row.get_scope_display(),
    )


def seen_by(user: User, rows: Iterable[AlertRule | AlertSilence]) -> dict[str, set[int]]:
    """Of what the rows name: the ids that the user may see, by scope. The rows' lists are prefetched."""
    listed = list(rows)
    tasks = {task.pk for row in listed for task in row.tasks.all()}
    groups = {group.pk for row in listed for group in row.groups.all()}
    return {
        Scope.TASKS: set(visible(user, Task.objects.filter(pk__in=tasks)).values_list("pk", flat=True)),
        Scope.GROUPS: set(visible(user, Group.objects.filter(pk__in=groups)).values_list("pk", flat=True)),
    }


def severity_pill(severity: str) -> str:
    return pill(SEVERITY_COLORS[Severity(severity)], Severity(severity).label)


class AlertFormAdmin(FormPageAdmin):
    """One kind of things that alerts are set up with. Subclasses say which form, action and template."""

    section = "alerts"
    list_display_links = None
    actions = None
    form_template = ""
    # What the actions are called with: (user, row or None, data).
    save: Any = None
    checked: Any = None
    remove: Any = None
    switch: Any = None  # (user, row, on=…), where rows can be switched on and off
    delete_question: Any = ""  # with %(name)s

    def make_form(self, request: HttpRequest, obj: Any, data: Any = None) -> AlertForm:
        raise NotImplementedError

    def page_context(self, request: HttpRequest, obj: Any, form: Any) -> dict[str, Any]:
        return {}

    def why_not(self, request: HttpRequest, obj: Any) -> str:
        """Why somebody who may change the object cannot do it on this page; "": they can."""
        return ""

    def url(self, name: str, *args: Any) -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_{name}", args=args)

    def get_urls(self) -> list[URLPattern]:
        own, name = self.admin_site.admin_view, f"{self.opts.app_label}_{self.opts.model_name}"
        switches = [
            path("<path:object_id>/enable/", own(self.enable_view), name=f"{name}_enable"),
            path("<path:object_id>/disable/", own(self.disable_view), name=f"{name}_disable"),
        ]
        return [
            path("check/", own(self.check_view), name=f"{name}_check"),
            path("<path:object_id>/check/", own(self.check_view), name=f"{name}_check_one"),
            path("<path:object_id>/remove/", own(self.remove_view), name=f"{name}_remove"),
            *(switches if self.switch else ()),
            *super().get_urls(),
        ]

    def menu_items(self, obj: Any, may: set[str]) -> list[dict[str, Any]]:
        label, icon = (_("Edit"), "pencil") if "change" in may else (_("View"), "eye")
        items = [
            {"label": label, "icon": icon, "url": self.url("change", obj.pk)},
            *self.more_items(obj, may),
        ]
        if "delete" in may:
            ask = self.delete_question % {"name": obj.name}
            remove = self.url("remove", obj.pk)
            items += [
                {"line": True},
                {"label": _("Delete"), "icon": "trash-2", "post": remove, "confirm": ask, "danger": True},
            ]
        return items

    def more_items(self, obj: Any, may: set[str]) -> list[dict[str, Any]]:
        """Of a row's menu, between editing and deleting."""
        return []

    def name_cell_of(self, obj: Any, below: Any) -> str:
        return format_html(
            '<a class="cell-main" href="{}">{}</a><span class="cell-sub">{}</span>',
            self.url("change", obj.pk), obj.name, below,
        )  # fmt: skip

    def switch_cell_of(self, obj: Any) -> str:
        """A switch for whoever may change the row, else how it stands."""
        if "change" not in obj.may:
            return pill(
                "success" if obj.is_enabled else "pending", _("Enabled") if obj.is_enabled else _("Disabled")
            )
        return format_html(
            '<button type="submit" role="switch" class="switch" form="row-action-form" formaction="{}"'
            ' aria-checked="{}" aria-label="{}"></button>',
            self.url("disable" if obj.is_enabled else "enable", obj.pk),
            "true" if obj.is_enabled else "false",
            _("Switch on “%(name)s”") % {"name": obj.name},
        )

    # --- what is sent ---

    def enable_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._switch(request, object_id, True)

    def disable_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._switch(request, object_id, False)

    def _switch(self, request: HttpRequest, object_id: str, on: bool) -> HttpResponse:
        def work(request: HttpRequest, obj: Any) -> dict[str, Any]:
            type(self).switch(who(request), obj, on=on)
            words = _("“%(name)s” is switched on.") if on else _("“%(name)s” is switched off.")
            return {"message": words % {"name": obj.name}, "reload": True}

        return self.post_view(request, object_id, work, "change")

    def remove_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def work(request: HttpRequest, obj: Any) -> dict[str, Any]:
            name = obj.name
            type(self).remove(who(request), obj)
            words = _("“%(name)s” is deleted.") % {"name": name}
            return {"message": words, "reload": True, "url": self.url("changelist")}

        return self.post_view(request, object_id, work, "delete")

    def check_view(self, request: HttpRequest, object_id: str | None = None) -> HttpResponse:
        """POST a form: {"errors": {field: [words]}}, what saving it would say. Nothing is stored."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        obj = self.access(request, object_id, "change") if object_id else None
        if obj is None and not self.has_add_permission(request):
            raise PermissionDenied
        form = self.make_form(request, obj, request.POST)
        if form.is_valid():
            try:
                type(self).checked(who(request), obj, form.data_for_action())
            except InvalidInput as error:
                form.take_errors(error)
        return JsonResponse({"errors": {name: list(map(str, texts)) for name, texts in form.errors.items()}})

    def form_page(self, request: HttpRequest, obj: Any) -> HttpResponse:
        may = {action for action in self.row_permissions if obj and self.may(request, obj, action)}
        why_not = self.why_not(request, obj) if "change" in may else ""
        may_change = obj is None or ("change" in may and not why_not)
        if request.method == "POST" and not may_change:
            raise PermissionDenied
        form = self.make_form(request, obj, request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid():
            try:
                # The page keeps showing what is stored, whatever the action puts into its own copy.
                copy = self.model.objects.get(pk=obj.pk) if obj else None
                stored: Model = type(self).save(who(request), copy, form.data_for_action())
            except InvalidInput as error:
                form.take_errors(error)
            except QuartzError as error:
                form.add_error(None, str(error.message))
            else:
                messages.success(request, _("“%(name)s” is saved.") % {"name": stored})
                return redirect(self.url("change", stored.pk))
        for field in form.fields.values():
            field.disabled = field.disabled or not may_change
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "nav_label": self.nav_label,
            "title": obj.name if obj else self.add_title,
            "list_url": self.url("changelist"),
            "check_url": self.url("check_one", obj.pk) if obj else self.url("check"),
            "object": obj,
            "form": form,
            "may_change": may_change,
            "why_not": why_not,
            "menu": [item for item in self.menu_items(obj, may) if item.get("label") != _("Edit")]
            if obj
            else [],
            **self.page_context(request, obj, form),
        }
        return TemplateResponse(request, self.form_template, context)
