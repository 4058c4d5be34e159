"""A browser on the running product."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.services import Stack
from tests.ui.console_pages import one_of_each

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-dev-shm-usage",
]  # fmt: skip


@pytest.fixture(scope="session")
def chrome(chromium: str) -> Iterator[Browser]:
    """One browser process for all tests."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def objects(stack: Stack) -> dict[str, Any]:
    """Ids of one object of every kind in the installation."""
    return one_of_each(stack)


@dataclass
class Visitor:
    """A browser window of its own, and everything that its pages complained about."""

    page: Page
    base: str
    password: str
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str = "/console/") -> Page:
        response = self.page.goto(self.base + path)
        assert response is not None, path
        assert response.status == 200, f"{path}: {response.status}"
        return self.page

    def log_in(self, user: str = "admin") -> Page:
        self.open("/console/login/")
        self.page.fill("#id_username", user)
        self.page.fill("#id_password", self.password)
        self.page.click("#login-form button[type=submit]")
        self.page.wait_for_selector("#sidebar")
        return self.page

    def speak(self, language: str) -> None:
        """Change the language for this window, as the button in the top bar does."""
        self.page.context.add_cookies([{"name": "qf_language", "value": language, "url": self.base}])


@pytest.fixture
def visitor(chrome: Browser, stack: Stack, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    """Nobody yet: `visitor.log_in()`. The test fails when a page met an error or broke the security policy."""
    options = getattr(request, "param", {})
    context = chrome.new_context(viewport={"width": 1366, "height": 768}, locale="en-US", **options)
    context.set_default_timeout(15_000)
    page = context.new_page()
    visitor = Visitor(page, stack.url, stack.password)
    page.on("pageerror", lambda error: visitor.complaints.append(f"{page.url}: {error}"))
    page.on(
        "console",
        lambda message: message.type == "error" and visitor.complaints.append(f"{page.url}: {message.text}"),
    )
    yield visitor
    context.close()
    assert visitor.complaints == []
