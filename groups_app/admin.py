"""The console's pages of groups; those of hosts are in console.clients, those of tokens in console.tokens."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from executions_app.console.alert_quick import alerts_part
from quartzflow.console.base import FormPageAdmin, who
from quartzflow.console.rights import RightsAdmin
from quartzflow.console.site import site
from quartzflow.errors import InvalidInput
from quartzflow.permissions import allowed, visible
from quartzflow.templatetags.console import moment
from tasks_app.selectors import tasks_for

from . import actions
from .console.clients import ClientAdmin, shown_hosts
from .console.placement import PlacementAdmin
from .console.rules import AssignmentRuleAdmin
from .console.tokens import EnrollmentTokenAdmin
from .models import Group
from .selectors import clients_for, groups_for

__all__ = ["AssignmentRuleAdmin", "ClientAdmin", "EnrollmentTokenAdmin", "GroupAdmin"]

SHOWN = 50  # hosts on a group's page


class GroupForm(forms.Form):
    """A group's fields; groups_app.actions checks them."""

    name = forms.CharField(label=_lazy("Name"), max_length=64)
    description = forms.CharField(label=_lazy("Description"), max_length=256, required=False)
    tags = forms.CharField(
        label=_lazy("Tags"), max_length=256, required=False, help_text=_lazy("Separated by commas.")
    )


@admin.register(Group, site=site)
class GroupAdmin(PlacementAdmin, RightsAdmin, FormPageAdmin):
    section = "hosts"
    icon = "layers"
    nav_order = 10
    nav_label = _lazy("Groups")
    add_title = _lazy("New group")
    empty_icon = "layers"
    empty_title = _lazy("No groups yet")
    empty_text = _lazy("Groups are what tasks are bound to. Make one, then let hosts join it.")

    rights = (
        ("view", _lazy("View")),
        ("manage_hosts", _lazy("Move hosts")),
        ("change", _lazy("Change")),
        ("delete", _lazy("Delete")),
    )
    change_list_template = "console/group_list.html"
    list_display = ("name_cell", "online_cell", "task_cell", "tags_cell", "updated_cell", "row_menu")
    list_display_links = None
    list_filter = ()
    search_fields = ("name", "description", "tags")
    search_help_text = _lazy("Search groups")
    actions = None

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        may_move = visible(who(request), Group.objects.all(), "manage_hosts").exists()
        return super().changelist_view(request, {"may_move_hosts": may_move, **(extra_context or {})})

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return groups_for(who(request)).order_by("name")

    @admin.display(description=_lazy("Group name"), ordering="name")
    def name_cell(self, group: Group) -> str:
        url = reverse("admin:groups_app_group_change", args=[group.pk])
        return format_html(
            '<a class="cell-main" href="{}">{}</a><span class="cell-sub">{}</span>',
            url,
            group.name,
            group.description,
        )

    @admin.display(description=_lazy("Hosts online"), ordering="online_count")
    def online_cell(self, group: Any) -> str:
        share = 100 * group.online_count // group.client_count if group.client_count else 0
        hosts = f"{reverse('admin:groups_app_client_changelist')}?group__id__exact={group.pk}"
        return render_to_string("console/online_bar.html", {"group": group, "share": share, "url": hosts})

    @admin.display(description=_lazy("Tasks bound"), ordering="task_count")
    def task_cell(self, group: Any) -> str:
        url = f"{reverse('admin:tasks_app_task_changelist')}?groups__id__exact={group.pk}"
        return format_html('<a class="num" href="{}">{}</a>', url, group.task_count)

    @admin.display(description=_lazy("Tags"))
    def tags_cell(self, group: Group) -> str:
        return format_html(
            '<span class="tags">{}</span>',
            format_html_join("", '<span class="tag">{}</span>', ((t,) for t in group.tag_list)),
        )

    @admin.display(description=_lazy("Changed"), ordering="updated_at")
    def updated_cell(self, group: Group) -> str:
        return moment(group.updated_at, "ago")

    def menu_items(self, group: Any, may: set[str]) -> list[dict[str, Any]]:
        edit = reverse("admin:groups_app_group_change", args=[group.pk])
        hosts = f"{reverse('admin:groups_app_client_changelist')}?group__id__exact={group.pk}"
        items: list[dict[str, Any]] = [
            {
                "label": _("Edit") if "change" in may else _("View"),
                "icon": "pencil" if "change" in may else "eye",
                "url": edit,
            },
            {"label": _("Hosts"), "icon": "server", "url": hosts},
        ]
        if "delete" in may:
            ask = _("Delete the group “%(name)s”? Its hosts stay, without a group.") % {"name": group.name}
            remove = reverse("admin:groups_app_group_remove", args=[group.pk])
            items += [
                {"line": True},
                {"label": _("Delete"), "icon": "trash-2", "post": remove, "confirm": ask, "danger": True},
            ]
        return items

    def get_urls(self) -> list[URLPattern]:
        remove = path(
            "<path:object_id>/remove/",
            self.admin_site.admin_view(self.remove_view),
            name="groups_app_group_remove",
        )
        return [remove, *super().get_urls()]

    def remove_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def remove(request: HttpRequest, group: Group) -> dict[str, Any]:
            name = group.name
            actions.do_delete_group(who(request), group)
            url = reverse("admin:groups_app_group_changelist")
            return {
                "message": _("The group “%(name)s” is deleted.") % {"name": name},
                "reload": True,
                "url": url,
            }

        return self.post_view(request, object_id, remove, "delete")

    def form_page(self, request: HttpRequest, group: Group | None) -> HttpResponse:
        initial = {"name": group.name, "description": group.description, "tags": group.tags} if group else {}
        form = GroupForm(request.POST or None, initial=initial)
        if request.method == "POST" and form.is_valid():
            try:
                # The page keeps showing what is stored, whatever the check puts into its own copy.
                copy = Group.objects.get(pk=group.pk) if group else None
                stored = actions.do_save_group(who(request), form.cleaned_data, copy)
            except InvalidInput as error:
                for field, texts in error.errors.items():
                    form.add_error(field if field in form.fields else None, [str(text) for text in texts])
            else:
                (self.log_change if group else self.log_addition)(request, stored, "")
                messages.success(request, _("“%(name)s” is saved.") % {"name": stored.name})
                return redirect("admin:groups_app_group_change", stored.pk)
        may = {action for action in self.row_permissions if group and self.may(request, group, action)}
        for input_ in form.fields.values():
            input_.disabled = group is not None and "change" not in may
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": group.name if group else _("New group"),
            "form": form,
            "group": group,
            "may_manage": group is not None and allowed(who(request), group, "manage_hosts"),
            "may_change": group is None or "change" in may,
            "menu": self.with_rights(request, group, self.menu_items(group, may)[1:]) if group else [],
            "hosts": shown_hosts(
                clients_for(who(request)).filter(group=group).order_by("-status", "client_id")[:SHOWN]
            )
            if group
            else [],
            "tasks": list(tasks_for(who(request)).filter(groups=group)[:SHOWN]) if group else [],
            "alerts": alerts_part(who(request), group) if group else None,
        }
        return TemplateResponse(request, "console/group_form.html", context)
