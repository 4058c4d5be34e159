"""The console's pages of alert channels. What is secret of one is never shown again."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from quartzflow.console.base import pill, who
from quartzflow.console.site import site
from quartzflow.templatetags.console import moment

from ..alerts import actions, channels, selectors
from ..alerts.choices import ChannelKind, DeliveryState
from ..alerts.models import AlertChannel, AlertDelivery
from .alert_base import AlertForm, AlertFormAdmin
from .alerts import SENT_COLORS

SHOWN = 10  # messages, rules
PLAIN = ("name", "is_enabled", "language", "rate_per_hour")
HELP: dict[tuple[str, str], Any] = {
    (ChannelKind.DINGTALK, "token"): _lazy(
        "In the group: settings, robots, custom robot. Paste the whole webhook address, or what follows access_token=."
    ),
    (ChannelKind.DINGTALK, "secret"): _lazy(
        "Where the robot's security is “additional signature”: the text that begins with SEC."
    ),
    (ChannelKind.WECOM, "token"): _lazy(
        "In the group: add a group robot. Paste its whole webhook address, or what follows key=."
    ),
    (ChannelKind.FEISHU, "token"): _lazy(
        "In the group: settings, bots, custom bot, without signature. Paste the whole webhook address, or its end."
    ),
    (ChannelKind.SLACK, "token"): _lazy(
        "Of an incoming webhook: paste the whole address, or the three parts behind /services/."
    ),
    (ChannelKind.EMAIL, "recipients"): _lazy("Several are separated by commas."),
    (ChannelKind.WEBHOOK, "url"): _lazy(
        "Gets a POST with JSON. A private address must be allowed in the system configuration first."
    ),
    (ChannelKind.WEBHOOK, "secret"): _lazy(
        "16 characters or more. Each message is signed with it, so that the receiver can tell that it is ours."
    ),
}


def config_name(kind: str, name: str) -> str:
    return f"config_{kind}_{name}"


class ChannelForm(AlertForm):
    """A channel's fields; what each kind needs is in executions_app.alerts.channels."""

    name = forms.CharField(
        label=_lazy("Name"), max_length=64, help_text=_lazy("How rules call it, such as “on-call group”.")
    )
    kind = forms.ChoiceField(label=_lazy("Kind"), choices=ChannelKind.choices, widget=forms.RadioSelect)
    is_enabled = forms.BooleanField(label=_lazy("Enabled"), required=False, initial=True)
    language = forms.ChoiceField(
        label=_lazy("Language of the messages"), choices=[("zh-hans", "简体中文"), ("en", "English")]
    )
    rate_per_hour = forms.IntegerField(
        label=_lazy("At most"), min_value=1, max_value=10_000, initial=60,
        help_text=_lazy("What is beyond is held back and told in one message afterwards."),
    )  # fmt: skip

    def __init__(self, channel: AlertChannel | None, data: Any = None, *, may_change: bool = True) -> None:
        self.channel = channel
        initial: dict[str, Any] = {"kind": ChannelKind.DINGTALK.value, "language": "zh-hans"}
        if channel is not None:
            initial = {name: getattr(channel, name) for name in (*PLAIN, "kind")}
            initial |= shown_config(channel) if may_change else {}
        super().__init__(data, initial=initial)
        kinds = [channel.kind] if channel else ChannelKind.values
        self.config = [(kind, field) for kind in kinds for field in channels.FIELDS[kind]]
        for kind, field in self.config:
            self.fields[config_name(kind, field.name)] = self._config_field(kind, field)
        if channel is not None:
            self.fields["kind"].disabled = True
        self.describe()

    def _config_field(self, kind: str, field: channels.Field) -> forms.CharField:
        attrs = {"class": "mono", "autocomplete": "off", "spellcheck": "false"}
        widget: forms.TextInput | forms.PasswordInput = forms.TextInput(attrs=attrs)
        words = HELP[kind, field.name]
        if field.is_secret:
            # Not sent back with an error either: what is secret is in no page.
            widget = forms.PasswordInput(render_value=False, attrs={**attrs, "autocomplete": "new-password"})
            if self.channel is not None:
                words = _("Stored, and not shown. Leave it empty to keep it.")
        return forms.CharField(
            label=field.label, required=False, max_length=2000, widget=widget, help_text=words
        )

    def config_fields(self) -> list[dict[str, Any]]:
        """For the template: the fields of each kind, with whether one must be filled in."""
        return [
            {
                "field": self[config_name(kind, field.name)],
                "when": "" if self.channel else f"kind:{kind}",
                "required": field.required and not (self.channel and field.is_secret),
            }
            for kind, field in self.config
        ]

    def data_for_action(self) -> dict[str, Any]:
        cleaned = self.cleaned_data
        kind = self.channel.kind if self.channel else cleaned["kind"]
        names = [field.name for of_kind, field in self.config if of_kind == kind]
        self.renamed = {f"config.{name}": config_name(kind, name) for name in names}
        values = {name: cleaned[config_name(kind, name)] for name in names}
        config = {name: value for name, value in values.items() if value}
        data = {name: cleaned[name] for name in PLAIN}
        if self.channel is None:
            data |= {"kind": kind, "config": config}
        elif config:
            data["config"] = config
        return data


def shown_config(channel: AlertChannel) -> dict[str, str]:
    """What may be seen of a channel's configuration: the recipients of mail."""
    fields = [field.name for field in channels.FIELDS[channel.kind] if not field.is_secret]
    if not fields:
        return {}
    try:
        known = channels.config_of(channel)
    except channels.SendFailed:
        return {}  # the page says so when somebody tries the channel
    return {config_name(channel.kind, name): known.get(name, "") for name in fields}


@admin.register(AlertChannel, site=site)
class AlertChannelAdmin(AlertFormAdmin):
    """Where alerts go."""

    icon = "plug"
    nav_order = 30
    nav_label = _lazy("Alert channels")
    add_title = _lazy("New channel")
    empty_icon = "plug"
    empty_title = _lazy("No channels yet")
    empty_text = _lazy(
        "A channel is where alerts go: a chat group, mail, or a webhook of your own. Make the first one, then a rule."
    )
    form_template = "console/alert_channel_form.html"
    save = staticmethod(actions.do_save_channel)
    checked = staticmethod(actions.checked_channel)
    remove = staticmethod(actions.do_delete_channel)
    switch = staticmethod(actions.do_switch_channel)
    delete_question = _lazy("Delete the channel “%(name)s”? The log of its messages goes with it.")

    list_display = ("name_cell", "last_cell", "rules_cell", "rate_cell", "switch_cell", "row_menu")
    list_filter = ("kind", "is_enabled")
    search_fields = ("name",)
    search_help_text = _lazy("Search by name")

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        newest = AlertDelivery.objects.filter(channel=OuterRef("pk")).order_by("-id").values("pk")[:1]
        rows = super().get_queryset(request)
        return rows.annotate(  # type: ignore[no-any-return]
            rule_count=Count("rules", distinct=True), last_id=Subquery(newest)
        )

    def prepare_rows(self, request: HttpRequest, rows: list[Any]) -> None:
        found = AlertDelivery.objects.in_bulk([row.last_id for row in rows if row.last_id])
        for row in rows:
            row.last = found.get(row.last_id)

    @admin.display(description=_lazy("Name"), ordering="name")
    def name_cell(self, channel: AlertChannel) -> str:
        return self.name_cell_of(channel, channel.get_kind_display())

    @admin.display(description=_lazy("Last message"))
    def last_cell(self, channel: Any) -> str:
        if channel.last is None:
            return format_html('<span class="muted">{}</span>', _("None yet"))
        return format_html(
            '{} {}<span class="cell-sub">{}</span>',
            pill(SENT_COLORS[DeliveryState(channel.last.state)], channel.last.get_state_display()),
            moment(channel.last.sent_at or channel.last.created_at, "ago"),
            channel.last.error or channel.last.title,
        )

    @admin.display(description=_lazy("Rules"))
    def rules_cell(self, channel: Any) -> str:
        return format_html('<span class="num">{}</span>', channel.rule_count)

    @admin.display(description=_lazy("Messages an hour"), ordering="rate_per_hour")
    def rate_cell(self, channel: AlertChannel) -> str:
        return format_html('<span class="num">{}</span>', channel.rate_per_hour)

    @admin.display(description=_lazy("Enabled"), ordering="is_enabled")
    def switch_cell(self, channel: Any) -> str:
        return self.switch_cell_of(channel)

    def more_items(self, channel: Any, may: set[str]) -> list[dict[str, Any]]:
        sent = f"{reverse('admin:executions_app_alertdelivery_changelist')}?channel__id__exact={channel.pk}"
        items = [{"label": _("Messages"), "icon": "list-checks", "url": sent}]
        if "change" in may:
            items.insert(
                0, {"label": _("Send a test message"), "icon": "zap", "post": self.url("test", channel.pk)}
            )
        return items

    def get_urls(self) -> list[URLPattern]:
        test = self.admin_site.admin_view(self.test_view)
        return [
            path("<path:object_id>/test/", test, name="executions_app_alertchannel_test"),
            *super().get_urls(),
        ]

    def test_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """POST: send a test message now; the answer says whether it went out."""

        def work(request: HttpRequest, channel: AlertChannel) -> str:
            actions.do_test_channel(who(request), channel)
            return _("The test message was sent to “%(name)s”.") % {"name": channel.name}

        return self.post_view(request, object_id, work, "change")

    def make_form(self, request: HttpRequest, obj: AlertChannel | None, data: Any = None) -> AlertForm:
        may_change = obj is None or self.may(request, obj, "change")
        return ChannelForm(obj, data, may_change=may_change)

    def page_context(self, request: HttpRequest, obj: AlertChannel | None, form: Any) -> dict[str, Any]:
        user = who(request)
        rules = selectors.rules_for(user).filter(channels=obj).order_by("name")[:SHOWN] if obj else ()
        found = selectors.deliveries_for(user).filter(channel=obj).order_by("-id")[:SHOWN] if obj else ()
        sent: list[Any] = list(found)
        for delivery in sent:
            delivery.color = SENT_COLORS[DeliveryState(delivery.state)]
        return {
            "no_mail": not settings.QF_MAIL,
            "rules": list(rules),
            "deliveries": sent,
            "may_add_rule": user.has_perm("executions_app.add_alertrule"),
        }
