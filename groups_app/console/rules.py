"""The console's pages of assignment rules: their order, one rule with a preview, and applying them to hosts."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy
from django.utils.translation import ngettext

from executions_app.placement import do_apply_rules
from quartzflow.console.base import ConsoleAdmin, who
from quartzflow.console.site import site
from quartzflow.errors import InvalidInput, QuartzError

from .. import rule_actions, rules
from ..choices import NameSyntax
from ..models import AssignmentRule, Group

LIST = "admin:groups_app_assignmentrule_changelist"
SHOWN = 50  # hosts of a preview


class RuleForm(forms.Form):
    """A rule's fields; groups_app.rule_actions checks them."""

    name = forms.CharField(label=_lazy("Name"), max_length=64)
    group_id = forms.TypedChoiceField(
        label=_lazy("Group"), coerce=int, help_text=_lazy("Where the hosts come.")
    )
    hostname = forms.CharField(
        label=_lazy("Host name"),
        max_length=256,
        required=False,
        help_text=_lazy("The whole name, such as web-*. Several wildcards are separated by commas."),
    )
    hostname_syntax = forms.ChoiceField(label=_lazy("Pattern"), choices=NameSyntax.choices, required=False)
    cidr = forms.CharField(
        label=_lazy("Networks"),
        max_length=2000,
        required=False,
        help_text=_lazy("Such as 10.1.0.0/16, 192.0.2.7. The server sees the address itself."),
    )
    labels = forms.CharField(
        label=_lazy("Labels"),
        max_length=1000,
        required=False,
        help_text=_lazy("Such as env=prod, role=web|db. The host must have all of them."),
    )
    is_enabled = forms.BooleanField(label=_lazy("Enabled"), required=False, initial=True)

    def __init__(self, data: Any = None, rule: AssignmentRule | None = None) -> None:
        initial = {name: getattr(rule, name) for name in self.base_fields if name != "labels"} if rule else {}
        super().__init__(data, initial={**initial, "labels": written(rule.labels)} if rule else {})
        self.fields["group_id"].choices = list(Group.objects.order_by("name").values_list("pk", "name"))  # type: ignore[attr-defined]
        for name in ("hostname", "cidr", "labels"):
            self.fields[name].widget.attrs["class"] = "mono"

    def clean_hostname_syntax(self) -> str:
        return self.cleaned_data["hostname_syntax"] or NameSyntax.GLOB.value

    def clean_labels(self) -> dict[str, str | list[str]]:
        return read_labels(self.cleaned_data["labels"])

    def add_errors(self, error: InvalidInput) -> None:
        for field, texts in error.errors.items():
            self.add_error(field if field in self.fields else None, [str(text) for text in texts])


def read_labels(text: str) -> dict[str, str | list[str]]:
    """From "env=prod, role=web|db". Raises ValidationError."""
    labels: dict[str, str | list[str]] = {}
    for part in text.split(","):
        if not part.strip():
            continue
        name, sign, value = (piece.strip() for piece in part.partition("="))
        if not sign or not name:
            raise forms.ValidationError(_("%(text)s is no label: write NAME=VALUE.") % {"text": part.strip()})
        values = [piece.strip() for piece in value.split("|")]
        labels[name] = values if len(values) > 1 else values[0]
    return labels


def written(labels: dict[str, Any]) -> str:
    """Labels as one writes them."""
    return ", ".join(
        f"{name}={'|'.join(value) if isinstance(value, list) else value}" for name, value in labels.items()
    )


@admin.register(AssignmentRule, site=site)
class AssignmentRuleAdmin(ConsoleAdmin):
    """For who manages the hosts of all groups."""

    section = "hosts"
    icon = "list-filter"
    nav_order = 40
    nav_label = _lazy("Assignment rules")

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return who(request).has_perm("groups_app.manage_hosts")

    has_module_permission = has_add_permission = has_view_permission
    has_change_permission = has_view_permission

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False  # a menu item with a question

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        name = "groups_app_assignmentrule"
        return [
            path("order/", wrap(self.order_view), name=f"{name}_order"),
            path("preview/", wrap(self.preview_view), name=f"{name}_preview"),
            path("apply/", wrap(self.apply_view), name=f"{name}_apply"),
            path("<int:pk>/remove/", wrap(self.remove_view), name=f"{name}_remove"),
            *super().get_urls(),
        ]

    def _check(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied

    def _page(self, request: HttpRequest, template: str, **context: Any) -> HttpResponse:
        everywhere = {**self.admin_site.each_context(request), "opts": self.opts}
        return TemplateResponse(request, template, {**everywhere, **context})

    def _rule(self, pk: Any) -> AssignmentRule:
        found = AssignmentRule.objects.filter(pk=int(pk)).first() if str(pk).isdigit() else None
        if found is None:
            raise Http404
        return found

    # --- the list ---

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        self._check(request)
        found: list[Any] = list(AssignmentRule.objects.select_related("group"))
        for rule in found:
            rule.label_text = written(rule.labels)
            rule.menu_items = self._menu(rule)
        return self._page(
            request,
            "console/rule_list.html",
            title=self.nav_label,
            rules=found,
            unsaved=request.GET.get("unsaved"),
        )

    def _menu(self, rule: AssignmentRule) -> list[dict[str, Any]]:
        ask = _("Delete the rule “%(name)s”? Hosts that came into a group by it stay there.") % {
            "name": rule.name
        }
        remove = reverse("admin:groups_app_assignmentrule_remove", args=[rule.pk])
        change = reverse("admin:groups_app_assignmentrule_change", args=[rule.pk])
        return [
            {"label": _("Edit"), "icon": "pencil", "url": change},
            {"line": True},
            {"label": _("Delete"), "icon": "trash-2", "post": remove, "confirm": ask, "danger": True},
        ]

    def order_view(self, request: HttpRequest) -> HttpResponse:
        """POST {rule: [ids]}: all of them, first to last."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        ids = [int(pk) for pk in request.POST.getlist("rule") if pk.isdigit()]
        try:
            rule_actions.do_order_rules(who(request), ids)
        except QuartzError as error:
            return JsonResponse({"message": str(error.message)}, status=error.http_status)
        return JsonResponse({"message": _("The order is saved.")})

    def remove_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        self._check(request)
        rule = self._rule(pk)
        rule_actions.do_delete_rule(who(request), rule)
        words = _("The rule “%(name)s” is deleted.") % {"name": rule.name}
        if request.headers.get("X-Requested-With"):
            return JsonResponse({"message": words, "reload": True, "url": reverse(LIST)})
        messages.success(request, words)
        return redirect(LIST)

    # --- one rule ---

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        return self._form_page(request, None)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        self._check(request)
        return self._form_page(request, self._rule(object_id))

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        return redirect(LIST)

    def _form_page(self, request: HttpRequest, rule: AssignmentRule | None) -> HttpResponse:
        self._check(request)
        form = RuleForm(request.POST or None, rule)
        if request.method == "POST" and form.is_valid():
            try:
                saved = rule_actions.do_save_rule(who(request), form.cleaned_data, rule)
            except InvalidInput as error:
                form.add_errors(error)
            except QuartzError as error:
                form.add_error(None, str(error.message))
            else:
                (self.log_change if rule else self.log_addition)(request, saved, "")
                messages.success(request, _("“%(name)s” is saved.") % {"name": saved.name})
                return redirect(LIST)
        title = rule.name if rule else _("New rule")
        return self._page(request, "console/rule_form.html", title=title, form=form, rule=rule)

    def preview_view(self, request: HttpRequest) -> HttpResponse:
        """POST the form's fields, and `rule`: the id of the stored one. Answers which hosts it meets."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        self._check(request)
        pk = request.POST.get("rule", "")
        rule = self._rule(pk) if pk else None
        form = RuleForm(request.POST, rule)
        form.fields["name"].required = False
        if form.is_valid():
            # The name does not matter yet: it may be missing, or be that of the rule that is being saved just now.
            data = {**form.cleaned_data, "name": rule.name if rule else uuid4().hex}
            try:
                found = rules.preview(rule_actions.fill_rule(data, rule))
            except InvalidInput as error:
                form.add_errors(error)
            else:
                return JsonResponse(_shown(found))
        texts = [str(text) for texts in form.errors.values() for text in texts]
        return JsonResponse({"message": " ".join(texts)}, status=400)

    # --- applying ---

    def apply_view(self, request: HttpRequest) -> HttpResponse:
        """GET ?only_without_group=1: what would move. POST: move it."""
        self._check(request)
        only = (request.POST if request.method == "POST" else request.GET).get("only_without_group") == "1"
        if request.method == "POST":
            try:
                count = do_apply_rules(who(request), only_without_group=only)
            except QuartzError as error:
                messages.error(request, str(error.message))
                return redirect("admin:groups_app_assignmentrule_apply")
            words = ngettext("%(count)d host moved.", "%(count)d hosts moved.", count)
            messages.success(request, words % {"count": count})
            return redirect(LIST)
        found = rules.moves(only_without_group=only)
        return self._page(
            request,
            "console/rule_apply.html",
            title=_("Apply the rules"),
            moves=found[:SHOWN],
            count=len(found),
            only=only,
        )


def _shown(found: rules.Matches) -> dict[str, Any]:
    total, earlier = len(found.matching), len(found.earlier)
    words = ngettext("%(count)d host meets the conditions.", "%(count)d hosts meet the conditions.", total)
    text = words % {"count": total}
    if earlier:
        taken = ngettext(
            "A rule before takes %(count)d of them.", "Rules before take %(count)d of them.", earlier
        )
        text += " " + taken % {"count": earlier}
    return {
        "message": text,
        "more": total > SHOWN,
        "hosts": [
            {
                "name": client.client_id,
                "address": client.ip,
                "group": client.group.name if client.group else "",
                "taken_by": found.earlier[client.pk].name if client.pk in found.earlier else "",
            }
            for client in found.matching[:SHOWN]
        ],
    }
