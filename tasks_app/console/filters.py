"""The filters of the console's list of tasks; each offers only what the user may see."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _lazy

from groups_app.models import Group
from quartzflow.console.base import who
from quartzflow.permissions import visible

from ..models import Task
from ..selectors import with_label

LOOKED_AT = 2000  # tasks whose labels are gathered
MOST = 50  # choices of one filter


class GroupFilter(admin.SimpleListFilter):
    title = _lazy("Groups")
    parameter_name = "groups__id__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        groups = visible(who(request), Group.objects.all()).order_by("name")
        return [(str(pk), name) for pk, name in groups.values_list("pk", "name")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        value = self.value() or ""
        return queryset.filter(groups=int(value)) if value.isdecimal() and len(value) < 19 else queryset


class LabelFilter(admin.SimpleListFilter):
    title = _lazy("Label")
    parameter_name = "label"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        rows = visible(who(request), Task.objects.exclude(labels={})).order_by("-pk")
        labels = rows.values_list("labels", flat=True)[:LOOKED_AT]
        found = {f"{name}={value}" for of_one in labels for name, value in of_one.items()}
        chosen = self.used_parameters.get(self.parameter_name)
        texts = sorted({*sorted(found)[:MOST], *([str(chosen)] if chosen else [])})
        return [(text, text) for text in texts]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        name, _equals, value = (self.value() or "").partition("=")
        return with_label(queryset, name, value) if name else queryset


class OwnerFilter(admin.SimpleListFilter):
    title = _lazy("Owner")
    parameter_name = "owner"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        owners = visible(who(request), Task.objects.exclude(owner=None)).order_by().values("owner").distinct()
        names = User.objects.filter(pk__in=owners).order_by("username").values_list("pk", "username")
        return [(str(pk), name) for pk, name in names[:MOST]]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        value = self.value() or ""
        return queryset.filter(owner=int(value)) if value.isdecimal() and len(value) < 19 else queryset
