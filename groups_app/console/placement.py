"""The console's board of groups and their hosts: hosts are dragged, or chosen and moved."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, F, Q, QuerySet, Window
from django.db.models.functions import RowNumber
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from executions_app.placement import do_move_clients
from quartzflow.console.base import ObjectPermissionAdmin, who
from quartzflow.errors import InvalidInput, QuartzError
from quartzflow.permissions import visible

from ..models import Client, Group
from .clients import shown_hosts

SHOWN, FEWEST = 100, 10  # hosts of one column; the search finds the others
CARDS = 1000  # on the whole board, where there are many groups
NOWHERE = "0"  # the group of those that have none


class PlacementAdmin(ObjectPermissionAdmin):
    """The board, for those who may manage the hosts of a group."""

    def get_urls(self) -> list[URLPattern]:
        board = self.admin_site.admin_view(self.board_view)
        return [path("hosts/", board, name="groups_app_group_hosts"), *super().get_urls()]

    def board_view(self, request: HttpRequest) -> HttpResponse:
        """GET ?q=: the board. POST {host: [ids], group: id or 0}: move hosts; JSON for scripts."""
        groups = visible(who(request), Group.objects.all(), "manage_hosts")
        if not groups.exists():
            raise PermissionDenied
        if request.method == "POST":
            return self._move(request, groups)
        words = request.GET.get("q", "").strip()
        hosts = Client.objects.order_by("-status", "client_id")
        if words:
            hosts = hosts.filter(
                Q(client_id__icontains=words) | Q(hostname__icontains=words) | Q(ip__icontains=words)
            )
        rows = list(groups.annotate(hosts=Count("clients")).order_by("name"))
        shown = max(FEWEST, min(SHOWN, CARDS // max(len(rows), 1)))
        place = Window(
            RowNumber(), partition_by=F("group"), order_by=[F("status").desc(), F("client_id").asc()]
        )
        first = (
            hosts.filter(group__in=[row.pk for row in rows]).annotate(place=place).filter(place__lte=shown)
        )
        of_group: dict[int | None, list[Client]] = {}
        for host in shown_hosts(first):
            of_group.setdefault(host.group_id, []).append(host)
        columns: list[dict[str, Any]] = [
            {"id": row.pk, "name": row.name, "count": row.hosts, "hosts": of_group.get(row.pk, [])}
            for row in rows
        ]
        if request.user.has_perm("groups_app.change_client"):
            stray = hosts.filter(group=None)
            columns.append(
                {
                    "id": NOWHERE,
                    "name": _("No group"),
                    "count": stray.count(),
                    "hosts": shown_hosts(stray[:SHOWN]),
                }
            )
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": _("Arrange hosts"),
            "columns": columns,
            "words": words,
        }
        return TemplateResponse(request, "console/host_board.html", context)

    def _move(self, request: HttpRequest, groups: QuerySet[Group]) -> HttpResponse:
        ids = [int(pk) for pk in request.POST.getlist("host") if pk.isdigit()]
        target = request.POST.get("group", "")
        try:
            group = groups.filter(pk=int(target)).first() if target.isdigit() else None
            if group is None and target != NOWHERE:
                raise InvalidInput({"group": [_("Choose a group whose hosts you may manage.")]})
            clients = list(Client.objects.select_related("group").filter(pk__in=ids))
            if not clients:
                raise InvalidInput({"host": [_("Choose at least one host.")]})
            count = do_move_clients(who(request), clients, group)
        except InvalidInput as error:
            text = " ".join(str(text) for texts in error.errors.values() for text in texts)
            return self._told(request, text, error.http_status)
        except QuartzError as error:
            return self._told(request, str(error.message), error.http_status)
        words = ngettext("%(count)d host moved to “%(name)s”.", "%(count)d hosts moved to “%(name)s”.", count)
        name = group.name if group else _("No group")
        return self._told(request, words % {"count": count, "name": name}, 200)

    def _told(self, request: HttpRequest, text: str, status: int) -> HttpResponse:
        if request.headers.get("X-Requested-With"):
            return JsonResponse({"message": text}, status=status)
        messages.add_message(request, messages.SUCCESS if status < 400 else messages.ERROR, text)
        return redirect("admin:groups_app_group_hosts")
