"""The part of the task form that says what runs: fields for each executor's settings, instead of JSON."""

from __future__ import annotations

import re
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _lazy

from ..choices import ExecutorType
from ..executors import HTTP_METHODS
from ..models import Task
from .fields import CODE, NamedTexts, StatusCodes

# Errors of a configuration name their key first, also in Chinese with its wide colon.
KEY_OF_ERROR = re.compile(r"(\w+)(?:: |：)(.+)", re.S)
CONFIG = "config_"  # what the fields of an executor's configuration are called: config_<key>
# executor → its keys, in the order of the form
EXECUTOR_KEYS: dict[ExecutorType, tuple[str, ...]] = {
    ExecutorType.SHELL: (
        "command",
        "interpreter",
        "work_dir",
        "env",
        "run_as",
        "umask",
        "nice",
        "limits",
    ),
    ExecutorType.HTTP: (
        "url",
        "method",
        "headers",
        "auth",
        "body",
        "expected_status",
        "expected_body",
        "follow_redirects",
        "verify_tls",
    ),
    ExecutorType.PLUGIN: ("plugin", "params"),
}


class ExecutorForm(forms.Form):
    """One field for each key of each executor's configuration."""

    executor_type = forms.TypedChoiceField(
        label=_lazy("Executor"), choices=ExecutorType.choices, coerce=int, widget=forms.RadioSelect
    )
    config_command = forms.CharField(
        label=_lazy("Command"), required=False, strip=False,
        widget=forms.Textarea(attrs={**CODE, "rows": 7, "data-code": ""}),
        help_text=_lazy("Runs on each target host. {{ params.NAME }} stands for a parameter, QF_PARAM_NAME."),
    )  # fmt: skip
    config_interpreter = forms.CharField(
        label=_lazy("Interpreter"),
        required=False,
        widget=forms.TextInput(attrs={**CODE, "placeholder": "sh"}),
    )
    config_work_dir = forms.CharField(
        label=_lazy("Working directory"),
        required=False,
        widget=forms.TextInput(attrs={**CODE, "placeholder": "/var/log"}),
    )
    config_env = NamedTexts(
        label=_lazy("Environment"), widget=forms.Textarea(attrs={**CODE, "rows": 3, "placeholder": "LANG=C.UTF-8"}),
        help_text=_lazy("One NAME=value a line."),
    )  # fmt: skip
    config_run_as = forms.CharField(
        label=_lazy("Run as user"), required=False, widget=forms.TextInput(attrs=CODE)
    )
    config_umask = forms.CharField(
        label=_lazy("File mode mask"),
        required=False,
        widget=forms.TextInput(attrs={**CODE, "placeholder": "022"}),
    )
    config_nice = forms.IntegerField(
        label=_lazy("Niceness"), required=False, min_value=0, max_value=19,
        widget=forms.NumberInput(attrs={"placeholder": "0"}),
        help_text=_lazy("0 to 19: the more, the sooner others get the processor."),
    )  # fmt: skip
    config_limits = NamedTexts(
        label=_lazy("Resource limits"), typed=True,
        widget=forms.Textarea(attrs={**CODE, "rows": 3, "placeholder": "memory_mb=512"}),
        help_text=_lazy("Of each process, one a line: cpu_seconds, memory_mb, open_files, processes, file_mb."),
    )  # fmt: skip
    config_url = forms.CharField(
        label=_lazy("Address"),
        required=False,
        widget=forms.TextInput(attrs={**CODE, "placeholder": "https://"}),
    )
    config_method = forms.ChoiceField(
        label=_lazy("Method"), choices=[(m, m) for m in HTTP_METHODS], required=False
    )
    config_headers = NamedTexts(
        label=_lazy("Headers"), separator=":",
        widget=forms.Textarea(attrs={**CODE, "rows": 3, "placeholder": "Accept: application/json"}),
        help_text=_lazy("One “Name: value” a line."),
    )  # fmt: skip
    config_auth = NamedTexts(
        label=_lazy("Sign-in"),
        widget=forms.Textarea(attrs={**CODE, "rows": 2, "placeholder": "token={{ secrets.NAME }}"}),
        help_text=_lazy("username=… and password=…, or token=…; a secret by its name: {{ secrets.NAME }}."),
    )  # fmt: skip
    config_body = forms.CharField(
        label=_lazy("Body"), required=False, strip=False, widget=forms.Textarea(attrs={**CODE, "rows": 4})
    )
    config_expected_status = StatusCodes(
        label=_lazy("Expected status"), required=False,
        widget=forms.TextInput(attrs={**CODE, "placeholder": "200, 204"}),
        help_text=_lazy("200 to 299 when left empty."),
    )  # fmt: skip
    config_expected_body = forms.CharField(
        label=_lazy("Expected in the answer"), required=False, strip=False,
        widget=forms.TextInput(attrs={**CODE, "placeholder": '"status": ?"ok"'}),
        help_text=_lazy("Regular expression that the answer must match somewhere."),
    )  # fmt: skip
    config_follow_redirects = forms.BooleanField(label=_lazy("Follow redirects"), required=False)
    config_verify_tls = forms.BooleanField(
        label=_lazy("Check the server's certificate"), required=False, initial=True
    )
    config_plugin = forms.CharField(
        label=_lazy("Plugin"), required=False, widget=forms.TextInput(attrs={**CODE, "list": "plugin-names"}),
        help_text=_lazy("One of those that come with the agent, or one that the hosts have installed."),
    )  # fmt: skip
    config_params = NamedTexts(
        label=_lazy("Parameters"), typed=True, widget=forms.Textarea(attrs={**CODE, "rows": 3}),
        help_text=_lazy("One name=value a line; numbers, true and false are taken as such, text in quotes as text."),
    )  # fmt: skip

    config_parameters = NamedTexts(
        label=_lazy("Parameters by default"),
        widget=forms.Textarea(attrs={**CODE, "rows": 2, "placeholder": "DAYS=7"}),
        help_text=_lazy("One NAME=value a line, for {{ params.NAME }} in what runs. A run by hand may give others."),
    )  # fmt: skip

    @staticmethod
    def config_defaults() -> dict[str, Any]:
        return {"config_verify_tls": True, "config_method": "GET"}

    @classmethod
    def config_of(cls, task: Task) -> dict[str, Any]:
        """The values of an existing task's configuration."""
        return cls.config_defaults() | {f"{CONFIG}{key}": v for key, v in task.executor_config.items()}

    def config_data(self) -> dict[str, Any]:
        """The configuration of the chosen executor; what is meant for the others is left out."""
        keys = EXECUTOR_KEYS[ExecutorType(self.cleaned_data["executor_type"])]
        config = {key: self.cleaned_data[f"{CONFIG}{key}"] for key in keys}
        if parameters := self.cleaned_data[f"{CONFIG}parameters"]:
            config["parameters"] = parameters  # every executor has them
        if config.get("verify_tls") is True:
            del config["verify_tls"]  # the default
        if config.get("follow_redirects") is False:
            del config["follow_redirects"]
        if isinstance(config.get("command"), str):
            config["command"] = config["command"].replace("\r\n", "\n")
        return config

    def config_error(self, text: str) -> tuple[str | None, str]:
        """Which field an error of the configuration is about, and its words without the field's name."""
        named = KEY_OF_ERROR.match(text)
        if named and f"{CONFIG}{named[1]}" in self.fields:
            return f"{CONFIG}{named[1]}", named[2]
        return None, text
