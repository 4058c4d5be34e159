"""That no page of the console is forgotten where all of them are looked at."""

from typing import Any

import pytest
from django.urls import URLPattern, URLResolver, resolve, reverse

from quartzflow.console.site import site
from tests.ui.conftest import Visitor
from tests.ui.console_pages import PAGES

pytestmark = pytest.mark.xdist_group("pages")

# Of each kind of object: the key of one_of_each. A kind without: nothing of it can be made at will.
KINDS = {
    "auth_group": "role",
    "auth_user": "user",
    "executions_app_alert": "alert",
    "executions_app_alertchannel": "channel",
    "executions_app_alertrule": "alertrule",
    "executions_app_alertsilence": "silence",
    "executions_app_execution": "execution",
    "executions_app_replay": "replay",
    "executions_app_report": "report",
    "executions_app_reportschedule": "report_schedule",
    "executions_app_run": "run",
    "groups_app_assignmentrule": "rule",
    "groups_app_client": "client",
    "groups_app_enrollmenttoken": "token",
    "groups_app_group": "group",
    "quartzflow_secret": "secret",
    "tasks_app_calendar": "calendar",
    "tasks_app_task": "task",
}
# What answers with HTML and is no page of its own.
NO_PAGES = {
    "executions_app_execution_menu": "a part of the list, which is looked at with one open",
    "login": "sends somebody with an account on; it is looked at before the log-in",
    "tasks_app_calendar_preview": "a part of the calendar's form",
}
# One template, whatever the object: that of a user is looked at.
SAME = "_history"


def named() -> dict[str, URLPattern]:
    """Every named address of the console."""
    found: dict[str, URLPattern] = {}
    queue: list[URLPattern | URLResolver] = list(site.urls[0])
    while queue:
        item = queue.pop()
        if isinstance(item, URLResolver):
            queue += item.url_patterns
        elif item.name:
            found[item.name] = item
    return found


def address(name: str, pattern: URLPattern, objects: dict[str, Any]) -> str:
    kind = next((kind for kind in sorted(KINDS, key=len, reverse=True) if name.startswith(kind)), "")
    of_kind = objects.get(KINDS.get(kind, ""), 1)
    known = {"kind": "task", "hours": 4, "number": 1, "task_id": objects["task"], "app_label": "auth"}
    names = [
        *pattern.pattern.converters,
        *(pattern.pattern.regex.groupindex if not pattern.pattern.converters else ()),
    ]
    return reverse(f"admin:{name}", kwargs={key: known.get(key, of_kind) for key in names})


def test_every_page_of_the_console_is_in_the_list(visitor: Visitor, objects: dict[str, Any]):
    visitor.log_in()
    listed = {resolve(path.partition("?")[0].format(**objects)).url_name for path in PAGES.values()}
    forgotten = []
    for name, pattern in named().items():
        if name in listed or name in NO_PAGES or name.endswith(SAME):
            continue
        answer = visitor.page.request.get(visitor.base + address(name, pattern, objects), max_redirects=0)
        assert answer.status < 500, name
        if answer.status == 200 and answer.headers["content-type"].startswith("text/html"):
            forgotten.append(name)
    assert forgotten == []
    assert "auth_user_history" in listed
    assert set(NO_PAGES) <= set(named())
