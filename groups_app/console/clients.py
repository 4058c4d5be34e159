"""The console's pages of hosts."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Model, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from executions_app.models import Execution
from executions_app.selectors import executions_for
from quartzflow.console.base import ObjectPermissionAdmin, pill, who
from quartzflow.console.site import site
from quartzflow.errors import Conflict
from quartzflow.permissions import visible
from quartzflow.templatetags.console import moment
from tasks_app.configs import wanted_versions

from .. import actions
from ..choices import ClientApproval, ClientStatus
from ..models import Client, Group
from ..selectors import clients_for


def shown_hosts(clients: Any) -> list[Client]:
    """Clients with the colour and the words of their state."""
    rows = list(clients)
    for row in rows:
        row.color, row.state = state_of(row)
    return rows


def state_of(client: Client) -> tuple[str, Any]:
    """A pill's colour and words: what keeps a host from work comes before whether it is online."""
    if client.approval != ClientApproval.APPROVED:
        return ("failure" if client.approval == ClientApproval.REVOKED else "timeout"), ClientApproval(
            client.approval
        ).label
    return ("success" if client.is_online else "pending"), ClientStatus(client.status).label


@admin.register(Client, site=site)
class ClientAdmin(ObjectPermissionAdmin):
    section = "hosts"
    icon = "server"
    nav_order = 20
    nav_label = _lazy("Hosts")
    empty_icon = "server"
    empty_title = _lazy("No hosts yet")
    empty_text = _lazy(
        "Install the agent on a host and let it join with an enrollment token; it then appears here."
    )
    change_list_template = "console/client_list.html"
    list_per_page = 50
    row_permissions = ("change",)

    list_display = (
        "client_cell",
        "status_cell",
        "group_cell",
        "address_cell",
        "version_cell",
        "config_cell",
        "running_cell",
        "heartbeat_cell",
        "row_menu",
    )
    list_display_links = None
    list_filter = ("status", "group", "approval")
    search_fields = ("client_id", "hostname", "ip")
    search_help_text = _lazy("Search by id, host name or address")
    actions = None

    def visible_rows(self, request: HttpRequest, action: str) -> QuerySet:
        user = who(request)
        if action == "view":
            return clients_for(user)
        managed = visible(user, Group.objects.all(), "manage_hosts")
        changeable = visible(user, Client.objects.all(), action).values("pk")
        return Client.objects.filter(Q(group__in=managed) | Q(pk__in=changeable))

    def may(self, request: HttpRequest, obj: Model, action: str) -> bool:
        if action == "view":
            return clients_for(who(request)).filter(pk=obj.pk).exists()
        return isinstance(obj, Client) and actions.may_manage(who(request), obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # hosts come in by enrolling

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        may_add = visible(who(request), Group.objects.all(), "manage_hosts").exists()
        return super().changelist_view(request, {"may_add_hosts": may_add, **(extra_context or {})})

    def prepare_rows(self, request: HttpRequest, rows: list[Any]) -> None:
        wanted = wanted_versions(rows)
        for row in shown_hosts(rows):
            row.wanted_version = wanted[row.client_id]  # type: ignore[attr-defined]

    @admin.display(description=_lazy("Host"), ordering="client_id")
    def client_cell(self, client: Client) -> str:
        url = reverse("admin:groups_app_client_change", args=[client.pk])
        return format_html(
            '<a class="cell-main" href="{}">{}</a><span class="cell-sub">{}</span>',
            url,
            client.client_id,
            client.hostname,
        )

    @admin.display(description=_lazy("Status"), ordering="status")
    def status_cell(self, client: Any) -> str:
        return pill(client.color, client.state)

    @admin.display(description=_lazy("Group"), ordering="group__name")
    def group_cell(self, client: Client) -> str:
        return format_html('<span class="tag">{}</span>', client.group.name) if client.group else "—"

    @admin.display(description=_lazy("Address"), ordering="ip")
    def address_cell(self, client: Client) -> str:
        return format_html('<span class="nowrap num">{}</span>', client.ip or "—")

    @admin.display(description=_lazy("Agent"), ordering="version")
    def version_cell(self, client: Client) -> str:
        return format_html(
            '<span class="nowrap">{}</span><span class="cell-sub">{} {}</span>',
            client.version or "—",
            client.os,
            client.arch,
        )

    @admin.display(description=_lazy("Configuration"))
    def config_cell(self, client: Any) -> str:
        if client.task_version >= client.wanted_version:
            return format_html('<span class="num">{}</span>', client.task_version)
        return format_html(
            '<span class="num">{} <span class="muted">/ {}</span></span>',
            client.task_version,
            client.wanted_version,
        )

    @admin.display(description=_lazy("Running"), ordering="running")
    def running_cell(self, client: Client) -> str:
        return format_html('<span class="num">{}</span>', client.running)

    @admin.display(description=_lazy("Last heartbeat"), ordering="last_heartbeat")
    def heartbeat_cell(self, client: Client) -> str:
        return moment(client.last_heartbeat, "ago")

    def menu_items(self, client: Any, may: set[str]) -> list[dict[str, Any]]:
        history = (
            f"{reverse('admin:executions_app_execution_changelist')}?client_id__exact={client.client_id}"
        )
        items: list[dict[str, Any]] = [
            {
                "label": _("View"),
                "icon": "eye",
                "url": reverse("admin:groups_app_client_change", args=[client.pk]),
            },
            {"label": _("Execution history"), "icon": "history", "url": history},
        ]
        return [*items, {"line": True}, *self._control_items(client)] if "change" in may else items

    def _control_items(self, client: Client) -> list[dict[str, Any]]:
        """What managers of a host may do to it."""
        name = {"name": client.client_id}

        def post(verb: str) -> str:
            return reverse(f"admin:groups_app_client_{verb}", args=[client.pk])

        items: list[dict[str, Any]] = []
        if client.credential_hash:
            ask = _("Give “%(name)s” a new credential? The agent takes it by itself; nothing is interrupted.")
            items.append(
                {
                    "label": _("Renew the credential"),
                    "icon": "refresh-cw",
                    "post": post("rotate"),
                    "confirm": ask % name,
                }
            )
        ask = _("Reset “%(name)s”? It is disconnected, and has to join again with an enrollment token.")
        items.append(
            {
                "label": _("Reset"),
                "icon": "rotate-ccw",
                "post": post("reset"),
                "confirm": ask % name,
                "danger": True,
            }
        )
        if client.approval != ClientApproval.REVOKED:
            ask = _("Revoke “%(name)s”? It is disconnected at once and gets in again only after a reset.")
            items.append(
                {
                    "label": _("Revoke"),
                    "icon": "ban",
                    "post": post("revoke"),
                    "confirm": ask % name,
                    "danger": True,
                }
            )
        return items

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        views = {
            "revoke": self.revoke_view,
            "reset": self.reset_view,
            "rotate": self.rotate_view,
            "approve": self.approve_view,
        }
        own = [
            path(f"<path:object_id>/{verb}/", wrap(view), name=f"groups_app_client_{verb}")
            for verb, view in views.items()
        ]
        return [*own, *super().get_urls()]

    def revoke_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def revoke(request: HttpRequest, client: Client) -> dict[str, Any]:
            actions.do_revoke_client(who(request), client)
            return {"message": _("“%(name)s” is revoked.") % {"name": client.client_id}, "reload": True}

        return self.post_view(request, object_id, revoke, "change")

    def reset_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def reset(request: HttpRequest, client: Client) -> dict[str, Any]:
            actions.do_reset_client(who(request), client)
            words = _("“%(name)s” can join again with an enrollment token.") % {"name": client.client_id}
            return {"message": words, "reload": True}

        return self.post_view(request, object_id, reset, "change")

    def rotate_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def rotate(request: HttpRequest, client: Client) -> str:
            actions.do_rotate_client(who(request), client)
            return _("“%(name)s” gets a new credential.") % {"name": client.client_id}

        return self.post_view(request, object_id, rotate, "change")

    def approve_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """POST {group, ip}: the address that the operator looked at must still be the client's."""

        def approve(request: HttpRequest, client: Client) -> dict[str, Any]:
            pk = request.POST.get("group", "")
            managed = visible(who(request), Group.objects.all(), "manage_hosts")
            group = managed.filter(pk=int(pk)).first() if pk.isdigit() else None
            if group is None:
                raise Conflict(_("Choose a group whose hosts you may manage."))
            actions.do_approve_client(who(request), client, group, ip=request.POST.get("ip", ""))
            return {"message": _("“%(name)s” is approved.") % {"name": client.client_id}, "reload": True}

        return self.post_view(request, object_id, approve, "change")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        client = self.get_object(request, object_id)
        if client is None:
            raise Http404
        shown_hosts([client])
        may = {action for action in self.row_permissions if self.may(request, client, action)}
        recent: list[Execution] = list(
            executions_for(who(request)).filter(client_id=client.client_id).order_by("-id")[:20]
        )
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": client.client_id,
            "client": client,
            "recent": recent,
            "wanted_version": wanted_versions([client])[client.client_id],
            "menu": self.menu_items(client, may)[1:],
            "awaits": client.approval == ClientApproval.PENDING and "change" in may,
            "groups": list(visible(who(request), Group.objects.all(), "manage_hosts")),
            "live_feed": request.user.has_perm("executions_app.view_execution"),
        }
        return TemplateResponse(request, "console/client.html", context)
