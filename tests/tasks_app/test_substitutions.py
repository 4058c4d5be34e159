"""Placeholders in tasks: what is refused when a task is saved, and what a run has to be given."""

import pytest
from django.utils import translation

from executions_app import control
from executions_app.models import Execution
from quartzflow.errors import InvalidInput
from tasks_app.choices import ExecutorType
from tasks_app.executors import check_executor_config
from tasks_app.models import Task
from tasks_app.substitutions import missing_parameters
from tests import people

SHELL, HTTP, PLUGIN = ExecutorType.SHELL, ExecutorType.HTTP, ExecutorType.PLUGIN


@pytest.mark.parametrize(
    ("executor", "config"),
    [
        (SHELL, {"command": "echo {{ params.Day }}", "parameters": {"day": "monday"}}),
        (SHELL, {"command": "echo {{ params.anything }} {{ .Names }}", "env": {"A": "{{ params.b }}"}}),
        (SHELL, {"command": "echo {{ params.upstream_status }}", "parameters": {"day": ""}}),
        (
            HTTP,
            {"url": "http://x/{{ params.a }}", "headers": {"A": "{{ params.a }}"}, "body": "{{ params.a }}"},
        ),
        (
            PLUGIN,
            {"plugin": "disk_check", "params": {"paths": ["/{{ params.a }}"]}, "parameters": {"a": "srv"}},
        ),
    ],
)
def test_placeholders_that_can_be_filled_in_are_taken(executor, config):
    assert check_executor_config(executor, config) == (config, [])


@pytest.mark.parametrize(
    ("executor", "config", "message"),
    [
        (SHELL, {"command": "echo '{{ params.x }}'"}, "command: {{ params.x }} stands in single quotes"),
        (SHELL, {"command": "{{ params.x | y }}"}, "command: {{ params.x | y }} …: a placeholder is written"),
        (
            SHELL,
            {"command": "{{ params.x }}", "interpreter": "php"},
            "command: {{ params.x }} is not filled in for php",
        ),
        (SHELL, {"command": "true", "env": {"A": "{{ params.x"}}, "env: {{ params.x"),
        (
            SHELL,
            {"command": "true", "work_dir": "/{{ params.x }}"},
            "work_dir: placeholders are not filled in here.",
        ),
        (
            SHELL,
            {"command": "true", "parameters": {"a": "{{ params.x }}"}},
            "parameters: placeholders are not",
        ),
        (
            SHELL,
            {"command": "{{ params.x }} {{ params.y }}", "parameters": {"X": "1"}},
            "parameters: the task uses {{ params.y }}, which is not among them.",
        ),
        (SHELL, {"command": "true", "parameters": {"a b": "1"}}, "parameters: a b: a name has letters"),
        (SHELL, {"command": "true", "parameters": {"a": "1", "A": "1"}}, "parameters: Two names differ only"),
        (HTTP, {"url": "http://{{ params.x }}.example/"}, "url: {{ params.x }}: scheme, host and port"),
        (PLUGIN, {"plugin": "x", "params": {"a": "{{ params.x"}}, "params: {{ params.x"),
    ],
)
def test_what_a_run_could_never_fill_in_is_refused_by_name(executor, config, message):
    with translation.override("en"):
        (wrong,) = check_executor_config(executor, config)[1]
    assert wrong.startswith(message)


def test_it_is_said_in_the_readers_language():
    with translation.override("zh-hans"):
        (wrong,) = check_executor_config(SHELL, {"command": "echo '{{ params.x }}'"})[1]
    assert "单引号" in wrong and "QF_PARAM_X" in wrong


def test_what_is_neither_given_nor_has_a_default_is_missing():
    config = {"command": "{{ params.a }} {{ params.b }} {{ params.C }}", "env": {"X": "{{ params.d }}"}}
    assert missing_parameters(SHELL, {**config, "parameters": {"b": "1"}}, {"c": "1"}) == ["a", "d"]


@pytest.mark.django_db
def test_a_task_with_such_a_command_is_not_saved():
    with translation.override("en"), pytest.raises(InvalidInput) as found:
        people.task("t", executor_config={"command": "echo `{{ params.x }}`"})
    assert "backticks" in str(found.value.errors["executor_config"])


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"b": "1"}, "The task uses a, which is not given and has no default."),
        ({"a": "1", "A": "2"}, "Two names differ only in upper and lower case."),
    ],
)
def test_a_run_by_hand_that_could_not_be_filled_in_does_not_begin(given, message):
    task = people.task("t", schedule_type="none", executor_config={"command": "echo {{ params.a }}"})
    with translation.override("en"), pytest.raises(InvalidInput) as found:
        control.do_trigger_task(people.admin(), task, given)
    assert found.value.errors == {"params": [message]}
    assert not Execution.objects.exists()


@pytest.mark.django_db
def test_a_run_by_hand_with_all_it_asks_for_begins():
    task = people.task("t", schedule_type="none", executor_config={"command": "echo {{ params.a }}"})
    people.online_client()
    (execution,) = control.do_trigger_task(people.admin(), task, {"A": 1})
    assert execution.params == {"A": "1"}


@pytest.mark.django_db
def test_a_run_by_hand_of_an_old_task_that_only_looks_so_says_what_is_wrong():
    task = people.task("t", schedule_type="none")
    Task.objects.update(executor_config={"command": "echo {{ params.a | upper }}"})
    task.refresh_from_db()
    with pytest.raises(InvalidInput) as found:
        control.do_trigger_task(people.admin(), task, {})
    assert "{{ params.NAME }}" in found.value.errors["params"][0]
