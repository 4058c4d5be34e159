"""Makes docs/images anew: every page of the console in Chinese, light and dark, and some in English.

With names of pages only those. `--look DIRECTORY` writes instead, elsewhere, what is not kept: English and 820 pixels.
"""

import io
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from tests import services
from tests.services import ROOT, Stack
from tests.ui.conftest import ARGUMENTS

from .world import Ids, inhabited

IMAGES = ROOT / "docs" / "images"
WIDTH, HEIGHT = 1366, 768
PAGES = {
    "overview": "/console/",
    "overview-30-days": "/console/?days=30",
    "tasks": "/console/tasks_app/task/",
    "task": "/console/tasks_app/task/{task}/detail/",
    "task-chain": "/console/tasks_app/task/{chain}/detail/",
    "task-form": "/console/tasks_app/task/{task}/change/",
    "task-new": "/console/tasks_app/task/add/",
    "task-versions": "/console/tasks_app/task/{task}/versions/",
    "task-import": "/console/tasks_app/task/import/",
    "executions": "/console/executions_app/execution/",
    "execution-live": "/console/executions_app/execution/{live}/change/",
    "execution-failed": "/console/executions_app/execution/{failed}/change/",
    "run": "/console/executions_app/execution/runs/{run}/",
    "log-search": "/console/executions_app/executionlog/?q=ERROR",
    "replays": "/console/executions_app/replay/",
    "replay-new": "/console/executions_app/replay/of/{task}/",
    "calendars": "/console/tasks_app/calendar/",
    "calendar": "/console/tasks_app/calendar/{calendar}/change/",
    "scheduler": "/console/executions_app/missedfiring/scheduler/",
    "missed-firings": "/console/executions_app/missedfiring/",
    "groups": "/console/groups_app/group/",
    "group": "/console/groups_app/group/{group}/change/",
    "hosts-between-groups": "/console/groups_app/group/hosts/",
    "hosts": "/console/groups_app/client/",
    "host": "/console/groups_app/client/{client}/change/",
    "host-new": "/console/groups_app/enrollmenttoken/add/",
    "enrollment-tokens": "/console/groups_app/enrollmenttoken/",
    "rules": "/console/groups_app/assignmentrule/",
    "rule": "/console/groups_app/assignmentrule/{rule}/change/",
    "rules-apply": "/console/groups_app/assignmentrule/apply/",
    "statistics": "/console/executions_app/report/statistics/?days=30",
    "reports": "/console/executions_app/report/",
    "report": "/console/executions_app/report/{report}/change/",
    "report-schedules": "/console/executions_app/reportschedule/",
    "report-schedule": "/console/executions_app/reportschedule/{report_schedule}/change/",
    "alerts": "/console/executions_app/alert/",
    "alert-rules": "/console/executions_app/alertrule/",
    "alert-rule": "/console/executions_app/alertrule/{alertrule}/change/",
    "alert-channels": "/console/executions_app/alertchannel/",
    "alert-channel": "/console/executions_app/alertchannel/{channel}/change/",
    "silences": "/console/executions_app/alertsilence/",
    "silence": "/console/executions_app/alertsilence/{silence}/change/",
    "alert-messages": "/console/executions_app/alertdelivery/",
    "users": "/console/auth/user/",
    "user": "/console/auth/user/{user}/change/",
    "roles": "/console/auth/group/",
    "role": "/console/auth/group/{role}/change/",
    "audit-log": "/console/quartzflow/auditentry/",
    "secrets": "/console/quartzflow/secret/",
    "secret-new": "/console/quartzflow/secret/add/",
    "system-configuration": "/console/quartzflow/systemsetting/",
    "own-settings": "/console/profile/",
}
ENGLISH = ("overview", "execution-live")  # what the English README shows
IMPORTANT = (
    "overview", "overview-30-days", "tasks", "task", "task-form", "executions", "execution-live", "hosts",
    "hosts-between-groups", "statistics", "alerts", "log-search", "system-configuration",
)  # fmt: skip


def compact(picture: bytes) -> bytes:
    """With a palette: a third of the size, and nobody sees it."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    written = io.BytesIO()
    image.quantize(256, dither=Image.Dither.NONE).save(written, "PNG", optimize=True)
    return written.getvalue()


class Photographer:
    """A browser window in one theme, one language and one width."""

    def __init__(self, browser: Browser, stack: Stack, theme: str, language: str, width: int = WIDTH) -> None:
        self.base = stack.url
        context = browser.new_context(
            viewport={"width": width, "height": HEIGHT},
            color_scheme=theme,  # type: ignore[arg-type]
            locale="zh-CN" if language == "zh-hans" else "en-US",
            timezone_id="Asia/Shanghai",
            reduced_motion="reduce",
        )
        context.set_default_timeout(30_000)
        context.add_cookies([{"name": "qf_language", "value": language, "url": self.base}])
        self.page: Page = context.new_page()

    def log_in(self, password: str) -> bytes:
        """Returns the picture of the log-in page."""
        self.page.goto(f"{self.base}/console/login/")
        self.page.wait_for_timeout(300)
        picture = self.page.screenshot(animations="disabled")
        self.page.fill("#id_username", "admin")
        self.page.fill("#id_password", password)
        self.page.click("#login-form button[type=submit]")
        self.page.wait_for_selector("#sidebar", state="attached")  # narrow windows hide it
        return picture

    def picture(self, path: str) -> bytes:
        answer = self.page.goto(self.base + path, wait_until="load")
        assert answer is not None and answer.status == 200, f"{path}: {answer and answer.status}"
        self.page.wait_for_selector("html.js")
        self.page.evaluate("() => document.fonts.ready")
        self.page.wait_for_timeout(600)  # what scripts ask the server for, and the first live words
        return self.page.screenshot(animations="disabled")


def take(stack: Stack, ids: Ids, names: list[str], elsewhere: Path | None) -> Iterator[tuple[Path, bytes]]:
    """(file, picture) of all that is wanted."""
    with sync_playwright() as driver:
        if elsewhere:
            looks = [("light", "en", WIDTH), ("dark", "zh-hans", 820), ("light", "zh-hans", 820)]
        else:
            looks = [("light", "zh-hans", WIDTH), ("dark", "zh-hans", WIDTH), ("light", "en", WIDTH)]
        for theme, language, width in looks:
            # The browser's own words (of dates and files) are in the language that it is started in.
            locale = "zh_CN" if language == "zh-hans" else "en_US"
            browser = driver.chromium.launch(
                executable_path=services.chromium_path(),
                args=[*ARGUMENTS, f"--lang={locale.replace('_', '-')}"],
                env={**os.environ, "LANGUAGE": locale, "LC_ALL": "C.UTF-8"},
            )
            photographer = Photographer(browser, stack, theme, language, width)
            ending = f"{'en.' if language == 'en' else ''}{theme}{'' if width == WIDTH else f'.{width}'}.png"
            log_in = photographer.log_in(stack.password)
            directory = elsewhere or IMAGES
            if language != "en" and not elsewhere and (not names or "log-in" in names):
                yield directory / f"log-in.{ending}", log_in
            for name, path in PAGES.items():
                kept = name in ENGLISH if language == "en" and not elsewhere else True
                kept = kept and (not elsewhere or name in IMPORTANT)
                if kept and (not names or name in names):
                    yield directory / f"{name}.{ending}", photographer.picture(path.format(**ids))
            browser.close()


def main(arguments: list[str]) -> int:
    elsewhere = None
    if arguments[:1] == ["--look"]:
        elsewhere, arguments = Path(arguments[1]), arguments[2:]
        elsewhere.mkdir(parents=True, exist_ok=True)
    unknown = set(arguments) - set(PAGES) - {"log-in"}
    if unknown:
        sys.stderr.write(f"no such page: {', '.join(sorted(unknown))}\n")
        return 2
    total = 0
    with tempfile.TemporaryDirectory(prefix="quartzflow-pictures-") as directory:
        environment = {"QF_LOG_LEVEL": "WARNING", "QF_MAIL_URL": "smtp://127.0.0.1:1"}
        with (
            services.running_stack(Path(directory), **environment) as stack,
            inhabited(stack) as ids,
        ):
            for file, picture in take(stack, ids, arguments, elsewhere):
                small = compact(picture)
                file.write_bytes(small)
                total += len(small)
    sys.stdout.write(f"{total / 2**20:.1f} MB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
