"""The part of the task form about alerts: who is told when the task fails or times out."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _lazy

from executions_app.alerts import selectors, watching
from executions_app.console.alert_base import cards_of, channel_notes
from quartzflow.errors import InvalidInput
from quartzflow.permissions import User

from ..models import Task


class AlertsForm(forms.Form):
    """Has its field only for whoever may make alert rules, and where there is a channel."""

    tell_channel_ids = forms.TypedMultipleChoiceField(
        label=_lazy("When it fails or times out, tell"), coerce=int, required=False,
        widget=forms.CheckboxSelectMultiple, help_text=_lazy("More rules are on the task's page, under alerts."),
    )  # fmt: skip

    def take_channels(self, user: User, source: Task | None) -> None:
        """`source`: the task, or the one that a new one is like."""
        self.channels = list(selectors.channels_for(user)) if watching.may_watch(user) else []
        told = watching.told(source) if source else []
        # Channels that the user may not see would be lost.
        if not self.channels or set(told) - {channel.pk for channel in self.channels}:
            del self.fields["tell_channel_ids"]
            return
        self.fields["tell_channel_ids"].choices = [(channel.pk, channel.name) for channel in self.channels]  # type: ignore[attr-defined]
        self.initial["tell_channel_ids"] = told

    def channel_cards(self) -> list[dict[str, Any]]:
        """For the template; nothing where the field is not there."""
        if "tell_channel_ids" not in self.fields:
            return []
        return cards_of(self, "tell_channel_ids", channel_notes(self.channels))

    def save_alerts(self, user: User, task: Task) -> None:
        """In the transaction that saves the task. Raises InvalidInput, NotAllowed."""
        chosen = self.cleaned_data.get("tell_channel_ids")
        if chosen is None or set(chosen) == set(watching.told(task)):
            return
        try:
            watching.do_watch_task(user, task, chosen)
        except InvalidInput as error:
            raise InvalidInput({"tell_channel_ids": error.errors["channel_ids"]}) from None
