"""The console's pages of secrets. A value is typed in and never shown again."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import Group as Role
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from tasks_app import secret_actions
from tasks_app.models import Task
from tasks_app.secrets import names_in, tasks_using

from ..errors import InvalidInput
from ..models import Secret
from ..permissions import User, visible
from ..templatetags.console import moment
from .base import FormPageAdmin, who
from .site import site

SHOWN = 50  # tasks on a secret's page


class SecretForm(forms.Form):
    """A secret's fields; tasks_app.secret_actions checks them."""

    name = forms.CharField(
        label=_lazy("Name"),
        max_length=64,
        help_text=_lazy("Letters, digits and underscores. Tasks use it by this name; it cannot be changed."),
        widget=forms.TextInput(attrs={"class": "mono", "autocomplete": "off", "spellcheck": "false"}),
    )
    description = forms.CharField(label=_lazy("Description"), max_length=256, required=False)
    value = forms.CharField(
        label=_lazy("Value"),
        strip=False,
        widget=forms.Textarea(
            attrs={"class": "mono", "rows": 3, "autocomplete": "off", "spellcheck": "false"}
        ),
    )
    users = forms.ModelMultipleChoiceField(
        User.objects.none(), label=_lazy("Users"), required=False, widget=forms.CheckboxSelectMultiple
    )
    roles = forms.ModelMultipleChoiceField(
        Role.objects.none(), label=_lazy("Roles"), required=False, widget=forms.CheckboxSelectMultiple
    )

    def __init__(self, secret: Secret | None, data: Any = None) -> None:
        initial: dict[str, Any] = {}
        if secret is not None:
            initial = {"name": secret.name, "description": secret.description}
            initial |= secret_actions.holders_of(secret)
        super().__init__(data, initial=initial)
        self.fields["users"].queryset = User.objects.filter(is_active=True).order_by("username")  # type: ignore[attr-defined]
        self.fields["roles"].queryset = Role.objects.order_by("name")  # type: ignore[attr-defined]
        if secret is None:
            self.fields["value"].help_text = _("Encrypted at once, and never shown again.")
        else:
            self.fields["name"].disabled = True
            self.fields["value"].required = False
            self.fields["value"].help_text = _(
                "Leave it empty to keep the value. A new one is in use at once."
            )

    def data_for_action(self) -> dict[str, Any]:
        data = dict(self.cleaned_data)
        data["users"] = [user.get_username() for user in data["users"]]
        data["roles"] = [role.name for role in data["roles"]]
        return data


@admin.register(Secret, site=site)
class SecretAdmin(FormPageAdmin):
    """Named secrets of tasks."""

    section = "settings"
    icon = "lock"
    nav_order = 25
    nav_label = _lazy("Secrets")
    add_title = _lazy("New secret")
    empty_icon = "lock"
    empty_title = _lazy("No secrets yet")
    empty_text = _lazy("A secret is a password or token that tasks use by its name, without showing it.")

    list_display = ("name_cell", "use_cell", "tasks_cell", "changed_cell", "row_menu")
    list_display_links = None
    search_fields = ("name", "description")
    search_help_text = _lazy("Search secrets")
    actions = None

    @admin.display(description=_lazy("Name"), ordering="name")
    def name_cell(self, secret: Secret) -> str:
        url = reverse("admin:quartzflow_secret_change", args=[secret.pk])
        return format_html(
            '<a class="cell-main mono" href="{}">{}</a><span class="cell-sub">{}</span>', url, secret.name,
            secret.description,
        )  # fmt: skip

    @admin.display(description=_lazy("In a task"))
    def use_cell(self, secret: Secret) -> str:
        return format_html("<code>{}</code>", f"{{{{ secrets.{secret.name} }}}}")

    @admin.display(description=_lazy("Tasks"))
    def tasks_cell(self, secret: Any) -> str:
        return format_html('<span class="num">{}</span>', secret.task_count)

    @admin.display(description=_lazy("Changed"), ordering="updated_at")
    def changed_cell(self, secret: Secret) -> str:
        return format_html(
            '{}<span class="cell-sub">{}</span>', moment(secret.updated_at, "ago"), secret.updated_by
        )

    def prepare_rows(self, request: HttpRequest, rows: list[Any]) -> None:
        using = [names_in(task.executor_config) for task in tasks_using([row.name for row in rows])]
        for row in rows:
            row.task_count = sum(row.name in names for names in using)

    def menu_items(self, secret: Any, may: set[str]) -> list[dict[str, Any]]:
        edit = reverse("admin:quartzflow_secret_change", args=[secret.pk])
        label, icon = (_("Edit"), "pencil") if "change" in may else (_("View"), "eye")
        items: list[dict[str, Any]] = [{"label": label, "icon": icon, "url": edit}]
        if "delete" in may:
            ask = _("Delete the secret “%(name)s”? Its value is lost.") % {"name": secret.name}
            remove = reverse("admin:quartzflow_secret_remove", args=[secret.pk])
            items += [
                {"line": True},
                {"label": _("Delete"), "icon": "trash-2", "post": remove, "confirm": ask, "danger": True},
            ]
        return items

    def get_urls(self) -> list[URLPattern]:
        remove = self.admin_site.admin_view(self.remove_view)
        return [
            path("<path:object_id>/remove/", remove, name="quartzflow_secret_remove"),
            *super().get_urls(),
        ]

    def remove_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def remove(request: HttpRequest, secret: Secret) -> dict[str, Any]:
            name = secret.name
            secret_actions.do_delete_secret(who(request), secret)
            url = reverse("admin:quartzflow_secret_changelist")
            return {
                "message": _("The secret “%(name)s” is deleted.") % {"name": name},
                "reload": True,
                "url": url,
            }

        return self.post_view(request, object_id, remove, "delete")

    def form_page(self, request: HttpRequest, secret: Secret | None) -> HttpResponse:
        user = who(request)
        may_change = secret is None or self.may(request, secret, "change")
        if request.method == "POST" and not may_change:
            raise PermissionDenied
        form = SecretForm(secret, request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid():
            try:
                data = form.data_for_action()
                stored = (
                    secret_actions.do_update_secret(user, secret, data)
                    if secret
                    else secret_actions.do_create_secret(user, data)
                )
            except InvalidInput as error:
                for field, texts in error.errors.items():
                    form.add_error(field if field in form.fields else None, [str(text) for text in texts])
            else:
                messages.success(request, _("“%(name)s” is saved.") % {"name": stored.name})
                return redirect("admin:quartzflow_secret_change", stored.pk)
        for field_ in form.fields.values():
            field_.disabled = field_.disabled or not may_change
        may = {action for action in self.row_permissions if secret and self.may(request, secret, action)}
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": secret.name if secret else self.add_title,
            "form": form,
            "secret": secret,
            "placeholder": f"{{{{ secrets.{secret.name} }}}}" if secret else "",
            "may_change": may_change,
            "menu": [item for item in self.menu_items(secret, may) if not item.get("url")] if secret else [],
            "tasks": self._tasks(user, secret) if secret else [],
        }
        return TemplateResponse(request, "console/secret_form.html", context)

    @staticmethod
    def _tasks(user: User, secret: Secret) -> list[Task]:
        pks = [task.pk for task in tasks_using([secret.name])]
        return list(visible(user, Task.objects.filter(pk__in=pks)).order_by("name")[:SHOWN])
