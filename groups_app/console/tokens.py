"""The console's pages of enrollment tokens: adding a host, and which tokens are out."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from quartzflow.console.base import ObjectPermissionAdmin, pill, who
from quartzflow.console.site import site
from quartzflow.errors import InvalidInput
from quartzflow.permissions import allowed, visible
from quartzflow.run.joining import is_loopback, join_command
from quartzflow.templatetags.console import moment

from .. import actions
from ..models import Client, EnrollmentToken, Group

VALIDITY = (
    (1, _lazy("1 hour")),
    (24, _lazy("1 day")),
    (7 * 24, _lazy("7 days")),
    (30 * 24, _lazy("30 days")),
)
BY_RULES = -1  # the group of a token that has none
SHOWN = 20  # hosts that have joined, on the page that waits for them
# From a copy of the product: its agent/ directory is all that a host needs.
INSTALL_COMMAND = "python3 -m venv quicflow && . quicflow/bin/activate && pip install ./agent"
RUN_COMMAND = "quicflow agent run"


class HostForm(forms.Form):
    """What lets hosts in; groups_app.actions checks it."""

    group = forms.TypedChoiceField(
        label=_lazy("Group"), coerce=int, help_text=_lazy("The hosts run the tasks of this group.")
    )
    max_uses = forms.IntegerField(
        label=_lazy("Hosts"), initial=1, min_value=1, max_value=100_000, help_text=_lazy("How many may join.")
    )
    hours = forms.TypedChoiceField(label=_lazy("Valid for"), coerce=int, choices=VALIDITY, initial=24)
    allow_wish = forms.BooleanField(
        label=_lazy("The host may choose"),
        required=False,
        help_text=_lazy("Where no rule fits, it comes into the group that it was told with --group."),
    )
    note = forms.CharField(
        label=_lazy("Note"), max_length=128, required=False, help_text=_lazy("For whom or what it is.")
    )

    def __init__(
        self, groups: list[Group], data: Any = None, group: str = "", *, by_rules: bool = False
    ) -> None:
        super().__init__(data, initial={"group": group})
        self.groups = {row.pk: row for row in groups}
        choices = [(row.pk, row.name) for row in groups]
        if by_rules:
            choices.append((BY_RULES, _("By the assignment rules")))
        else:
            del self.fields["allow_wish"]
        self.fields["group"].choices = choices  # type: ignore[attr-defined]


@admin.register(EnrollmentToken, site=site)
class EnrollmentTokenAdmin(ObjectPermissionAdmin):
    """Tokens are for those who may move hosts into their groups."""

    section = "hosts"
    icon = "key-round"
    nav_order = 30
    nav_label = _lazy("Enrollment tokens")
    add_title = _lazy("Add a host")
    empty_icon = "key-round"
    empty_title = _lazy("No enrollment tokens")
    empty_text = _lazy("A token lets new hosts into a group. Add a host to make one.")
    row_permissions = ("manage_hosts",)

    list_display = (
        "token_cell", "state_cell", "group_cell", "uses_cell", "expires_cell", "created_cell", "row_menu",
    )  # fmt: skip
    list_display_links = None
    list_filter = ("group",)
    search_fields = ("prefix", "note")
    search_help_text = _lazy("Search by note or beginning")
    actions = None

    # --- who may ---

    def visible_rows(self, request: HttpRequest, action: str) -> QuerySet:
        groups = visible(who(request), Group.objects.all(), "manage_hosts")
        mine = Q(group__in=groups)
        if may_rule(request):
            mine |= Q(group=None)
        return EnrollmentToken.objects.filter(mine).select_related("group", "created_by")

    def may(self, request: HttpRequest, obj: Model, action: str) -> bool:
        if not isinstance(obj, EnrollmentToken):
            return False
        return may_rule(request) if obj.group is None else allowed(who(request), obj.group, "manage_hosts")

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.has_add_permission(request) if obj is None else self.may(request, obj, "view")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return visible(who(request), Group.objects.all(), "manage_hosts").exists()

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    # --- list ---

    @admin.display(description=_lazy("Token"))
    def token_cell(self, token: EnrollmentToken) -> str:
        return format_html('<code>{}…</code><span class="cell-sub">{}</span>', token.prefix, token.note)

    @admin.display(description=_lazy("Status"))
    def state_cell(self, token: EnrollmentToken) -> str:
        color, label = state_of(token)
        return pill(color, label)

    @admin.display(description=_lazy("Group"), ordering="group__name")
    def group_cell(self, token: EnrollmentToken) -> str:
        return format_html(
            '<span class="tag">{}</span>', token.group.name if token.group else _("By the rules")
        )

    @admin.display(description=_lazy("Hosts joined"), ordering="uses")
    def uses_cell(self, token: EnrollmentToken) -> str:
        return format_html('<span class="num">{} / {}</span>', token.uses, token.max_uses)

    @admin.display(description=_lazy("Expires"), ordering="expires_at")
    def expires_cell(self, token: EnrollmentToken) -> str:
        return moment(token.expires_at, "two")

    @admin.display(description=_lazy("Created"), ordering="created_at")
    def created_cell(self, token: EnrollmentToken) -> str:
        by = token.created_by.get_username() if token.created_by else _("the server")
        return format_html('{}<span class="cell-sub">{}</span>', moment(token.created_at, "ago"), by)

    def menu_items(self, token: EnrollmentToken, may: set[str]) -> list[dict[str, Any]]:
        if "manage_hosts" not in may or token.revoked_at:
            return []
        ask = _("Revoke the token “%(name)s”? No further host gets in by it; those that did stay.") % {
            "name": str(token)
        }
        revoke = reverse("admin:groups_app_enrollmenttoken_revoke", args=[token.pk])
        return [{"label": _("Revoke"), "icon": "ban", "post": revoke, "confirm": ask, "danger": True}]

    # --- pages ---

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        prefix = "groups_app_enrollmenttoken"
        return [
            path("<path:object_id>/revoke/", wrap(self.revoke_view), name=f"{prefix}_revoke"),
            path("<path:object_id>/joined/", wrap(self.joined_view), name=f"{prefix}_joined"),
            *super().get_urls(),
        ]

    def revoke_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def revoke(request: HttpRequest, token: EnrollmentToken) -> dict[str, Any]:
            actions.do_revoke_enrollment_token(who(request), token)
            return {"message": _("The token “%(name)s” is revoked.") % {"name": str(token)}, "reload": True}

        return self.post_view(request, object_id, revoke, "manage_hosts")

    def joined_view(self, request: HttpRequest, object_id: str) -> JsonResponse:
        """GET: how many hosts have come in by the token, and which are new since it was made."""
        token = self.access(request, object_id, "manage_hosts")
        new = Client.objects.filter(created_at__gte=token.created_at)
        if token.group is not None:
            new = new.filter(group=token.group)
        hosts = [
            {
                "name": client.client_id,
                "address": client.ip,
                "url": reverse("admin:groups_app_client_change", args=[client.pk]),
            }
            for client in new.order_by("-created_at")[:SHOWN]
        ]
        return JsonResponse({"uses": token.uses, "max_uses": token.max_uses, "hosts": hosts})

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        groups = list(visible(who(request), Group.objects.all(), "manage_hosts").order_by("name"))
        if not groups and not may_rule(request):
            raise PermissionDenied
        form = HostForm(
            groups, request.POST or None, request.GET.get("group", ""), by_rules=may_rule(request)
        )
        made: tuple[EnrollmentToken, str] | None = None
        if request.method == "POST" and form.is_valid():
            data = dict(form.cleaned_data)
            try:
                group = form.groups.get(data.pop("group"))
                made = actions.do_create_enrollment_token(who(request), group, **data)
            except InvalidInput as error:
                for field, texts in error.errors.items():
                    form.add_error(field if field in form.fields else None, [str(text) for text in texts])
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": self.add_title,
            "form": form,
            "made": made[0] if made else None,
            "only_local": is_loopback(settings.ENV.quic_host),
        }
        if made:
            # Not kept anywhere: this answer is the only place that ever shows it.
            context["commands"] = [
                (_("1. Install the agent, where it is not yet"), INSTALL_COMMAND),
                (_("2. Let it join"), join_command(settings.ENV, made[1])),
                (_("3. Start it"), RUN_COMMAND),
            ]
        return TemplateResponse(request, "console/host_add.html", context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        return redirect("admin:groups_app_enrollmenttoken_changelist")  # there is nothing more to a token

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        return redirect("admin:groups_app_enrollmenttoken_changelist")


def may_rule(request: HttpRequest) -> bool:
    """Whether the user may let hosts in whose group the rules choose."""
    return who(request).has_perm("groups_app.manage_hosts")


def state_of(token: EnrollmentToken) -> tuple[str, Any]:
    """The colour and the words for what a token is still good for."""
    if token.revoked_at:
        return "failure", _("Revoked")
    if token.expires_at <= timezone.now():
        return "pending", _("Expired")
    if token.uses >= token.max_uses:
        return "success", _("Used up")
    return "running", _("Usable")
