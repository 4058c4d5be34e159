"""Benchmarks of the console in a real browser, on the whole product: what people wait for.

BENCH_PAGE_ROUNDS (5) scales the repetitions, BENCH_PAGE_SECONDS (30) how long events are published.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests import services
from tests.services import ROOT, Stack
from tests.ui.conftest import ARGUMENTS

from .registry import Measurement, benchmark, percentile

ROUNDS = int(os.environ.get("BENCH_PAGE_ROUNDS", "5"))
SECONDS = int(os.environ.get("BENCH_PAGE_SECONDS", "30"))
SAMPLES = 50  # state changes
RATE = 1000  # events a second
OPEN = {"overviews": 10, "lists of executions": 20, "lists of tasks": 10, "executions": 10}  # pages

OVERVIEW, TASKS = "/console/", "/console/tasks_app/task/"
EXECUTIONS = "/console/executions_app/execution/"
STATISTICS = "/console/executions_app/report/statistics/?days=30"

# In every page: when its first content, its whole document and its first chart were there, in Unix time, ms.
CLOCK = """
window.painted = new Promise((resolve) => {
  const drawn = () => document.querySelector("svg.chart rect[class^=bar-]");
  let chart = 0;
  const look = () => {
    if (!chart && drawn()) chart = performance.timeOrigin + performance.now();
    const [first] = performance.getEntriesByName("first-contentful-paint");
    const [page] = performance.getEntriesByType("navigation");
    if (first && page && page.domContentLoadedEventEnd) {
      const begun = performance.timeOrigin;
      const ready = begun + Math.max(first.startTime, page.domContentLoadedEventEnd);
      resolve({ begun, first: begun + first.startTime, ready, now: begun + performance.now(), chart });
    } else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
});
const note = () => sessionStorage.setItem("clicked", String(performance.timeOrigin + performance.now()));
document.addEventListener("click", note, true);
"""
CLICKED = (
    "() => window.painted.then((found) => ({ ...found, clicked: Number(sessionStorage.getItem('clicked')) }))"
)
# When an execution's last state was first seen on the page: id → Unix time, ms.
OBSERVE = """() => {
  window.ends = {};
  const note = () => document.querySelectorAll("[data-execution]").forEach((pill) => {
    if (Number(pill.dataset.status) > 2) window.ends[pill.dataset.execution] ??= Date.now();
  });
  note();
  new MutationObserver(note).observe(document.body, { subtree: true, childList: true, attributes: true });
}"""
# As many sockets as pages, which do what live.js and live_parts.js do; 5 ms to a slot of the histogram.
SOCKETS = """async ({ pages, every }) => {
  window.late = new Array(2000).fill(0);
  window.fetches = 0;
  // Each page would have a browser of its own. Here one has them all, and what they are told alike is parsed once.
  let parsed = { text: "" };
  const parse = (text) => {
    if (text !== parsed.text) {
      const message = JSON.parse(text);
      const rows = (message.items || []).map((row) => [row.id, row.status, Date.parse(row.end_time)]);
      parsed = { text, event: message.event, rows };
    }
    return parsed;
  };
  window.sockets = pages.map(({ subscribe, refetch }) => {
    const socket = new WebSocket(`ws://${location.host}${document.documentElement.dataset.live}`);
    const page = { seen: new Map(), messages: 0, bytes: 0 };
    let timer = 0, last = 0;
    const fetchPage = async () => {
      timer = 0;
      last = Date.now();
      window.fetches += (await (await fetch(refetch)).text()).length > 0;
    };
    socket.onopen = () => socket.send(JSON.stringify({ action: "subscribe", ...subscribe }));
    page.ready = new Promise((resolve) => {
      socket.onmessage = (event) => {
        const message = parse(event.data);
        if (message.event === "snapshot") resolve();
        if (message.event !== "executions") return;
        page.messages += 1;
        page.bytes += event.data.length;
        const now = Date.now();
        for (const [id, status, at] of message.rows) {
          page.seen.set(id, status);
          window.late[Math.min(1999, Math.max(0, Math.floor((now - at) / 5)))] += 1;
        }
        if (refetch && !timer) timer = setTimeout(fetchPage, Math.max(300, last + every - now));
      };
    });
    return page;
  });
  await Promise.all(window.sockets.map((page) => page.ready));
}"""
# For each socket: how many of the executions that it must know have their end there.
KNOWN = """(ids) => window.sockets.map((page, number) => ids[number].filter((id) => page.seen.get(id) > 2).length)"""


@dataclass
class Console:
    """A browser on a filled installation."""

    stack: Stack
    browser: Browser
    known: dict[str, Any]  # what page_world.fill has printed
    state: Any = None  # cookies of a log-in
    contexts: list[BrowserContext] = field(default_factory=list)

    def window(self) -> Page:
        """A new window, logged in, with nothing in its cache."""
        context = self.browser.new_context(
            viewport={"width": 1366, "height": 768}, locale="zh-CN", storage_state=self.state
        )
        context.set_default_timeout(30_000)
        context.add_init_script(CLOCK)
        self.contexts.append(context)
        return context.new_page()

    def close_windows(self) -> None:
        while self.contexts:
            self.contexts.pop().close()

    def log_in(self) -> None:
        page = self.window()
        page.goto(f"{self.stack.url}/console/login/")
        page.fill("#id_username", "admin")
        page.fill("#id_password", self.stack.password)
        page.click("#login-form button[type=submit]")
        page.wait_for_selector("#sidebar")
        self.state = page.context.storage_state()
        self.close_windows()

    def times(self, page: Page, path: str) -> dict[str, float]:
        """Go there; the page's own clock, Unix time in ms."""
        answer = page.goto(self.stack.url + path, wait_until="load")
        assert answer is not None and answer.status == 200, f"{path}: {answer and answer.status}"
        found: dict[str, float] = page.evaluate("() => window.painted")
        return found


@contextmanager
def console() -> Iterator[Console]:
    with (
        tempfile.TemporaryDirectory(prefix="quartzflow-bench-") as text,
        services.running_stack(Path(text), QF_LOG_LEVEL="WARNING") as stack,
        sync_playwright() as driver,
    ):
        known = json.loads(world(stack, "fill").communicate(timeout=120)[0])
        awake = ["--disable-background-timer-throttling", "--disable-renderer-backgrounding"]
        path = services.chromium_path()
        browser = driver.chromium.launch(executable_path=path, args=[*ARGUMENTS, *awake])
        found = Console(stack, browser, known)
        found.log_in()
        yield found
        browser.close()


def world(stack: Stack, *arguments: str) -> subprocess.Popen:
    """tests.bench.page_world on the installation."""
    env = {**stack.env, "DJANGO_SETTINGS_MODULE": "quartzflow.settings"}
    command = [sys.executable, "-m", "tests.bench.page_world", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)


def promise(name: str, times: list[float], limit: float, what: str) -> Measurement:
    """The 95th percentile of times in ms."""
    against = f"{limit:g} ms: {what}; p95 of {len(times)}, median {percentile(times, 50):.0f} ms"
    return Measurement(name, round(percentile(times, 95), 1), "ms", "lower", limit, against)


@benchmark
def pages() -> Iterator[Measurement]:
    """The console in a browser: first paint, page to page, lists of 100 rows, charts, live changes, 50 open pages."""
    with console() as one:
        for part in (first_paint, page_to_page, lists_of_100, charts, changes, fifty_pages):
            yield from part(one)
            one.close_windows()


def first_paint(one: Console) -> Iterator[Measurement]:
    """With an empty cache, as at the first visit."""
    found = []
    for path in (OVERVIEW, TASKS) * ROUNDS:
        times = one.times(one.window(), path)
        found.append(times["first"] - times["begun"])
        one.close_windows()
    yield promise("pages_first_paint", found, 2000, "first paint of overview and task list, nothing cached")


def page_to_page(one: Console) -> Iterator[Measurement]:
    """From the click in the side bar until the next page is there and painted."""
    page = one.window()
    one.times(page, OVERVIEW)
    paths = page.eval_on_selector_all(
        "#sidebar nav a", "links => links.map((link) => link.getAttribute('href'))"
    )
    found: dict[str, list[float]] = {path: [] for path in paths}
    for turn in range(ROUNDS + 1):
        for path in paths[1:] + paths[:1]:
            page.locator(f'#sidebar nav a[href="{path}"]').click()
            page.wait_for_url(one.stack.url + path)
            times = page.evaluate(CLICKED)
            if turn:  # the first round fills the cache
                found[path].append(times["ready"] - times["clicked"])
            page.wait_for_load_state("load")
    slowest = sorted(paths, key=lambda path: percentile(found[path], 50), reverse=True)
    for path in slowest[:5]:
        sys.stdout.write(f"  {percentile(found[path], 50):7.0f} ms  {path}\n")
    every = [one_time for times in found.values() for one_time in times]
    yield promise("pages_page_to_page", every, 300, f"from a click to the next page, {len(paths)} pages")


def lists_of_100(one: Console) -> Iterator[Measurement]:
    shown = {
        "tasks": f"{TASKS}?q=task-000&all=",
        "executions": f"{EXECUTIONS}?task__id__exact={one.known['listed']}&all=",
    }
    for name, path in shown.items():
        page, found = one.window(), []
        for turn in range(2 * ROUNDS + 1):
            times = one.times(page, path)
            if turn:
                found.append(times["now"] - times["begun"])
        rows = page.locator("#result_list tbody tr").count()
        assert rows >= 100, f"{name}: {rows} rows"
        yield promise(f"pages_list_of_{name}", found, 500, f"a list of {rows} {name}, whole and painted")


def charts(one: Console) -> Iterator[Measurement]:
    for name, path in {"overview": f"{OVERVIEW}?days=30", "statistics": STATISTICS}.items():
        page, found = one.window(), []
        for turn in range(2 * ROUNDS + 1):
            times = one.times(page, path)
            assert times["chart"], f"no chart on {path}"
            if turn:
                found.append(times["chart"] - times["begun"])
        yield promise(f"pages_charts_of_{name}", found, 1000, f"the charts of {name}, 30 days, drawn")


def changes(one: Console) -> Iterator[Measurement]:
    """From an execution's end on the agent to the page that shows it: the list of executions, and its own page."""
    stack = one.stack
    listing, own = one.window(), one.window()
    one.times(listing, EXECUTIONS)
    listing.evaluate(OBSERVE)
    seen: dict[str, dict[int, float]] = {"list": {}, "execution": {}}
    with stack.api() as api:
        task = services.shell_task(api, "watched", "0 0 1 1 *", "sleep 1.5; echo done")
        time.sleep(3)
        for _ in range(SAMPLES):
            pk = api.post(f"/tasks/{task}/trigger", json={}).json()["data"]["execution_id"]
            one.times(own, f"{EXECUTIONS}{pk}/change/")
            status = own.get_attribute("h1 .pill", "data-status")
            assert status in ("1", "2"), f"it was over before its page was there: {status}"
            own.evaluate(OBSERVE)
            own.wait_for_function("(id) => window.ends[id]", arg=str(pk))
            listing.wait_for_function("(id) => window.ends[id]", arg=str(pk))
            seen["execution"][pk] = own.evaluate("(id) => window.ends[id]", str(pk))
            seen["list"][pk] = listing.evaluate("(id) => window.ends[id]", str(pk))
        ended = {row["id"]: moment(row["end_time"]) for row in services.executions(api, task)}
    for name, times in seen.items():
        late = [at - ended[pk] for pk, at in times.items()]
        assert min(late) >= 0, late
        yield promise(f"pages_change_on_{name}", late, 1000, "from the end on the agent to the page")


def moment(text: str) -> float:
    """Unix time in ms."""
    return datetime.fromisoformat(text).timestamp() * 1000


def fifty_pages(one: Console) -> Iterator[Measurement]:
    """50 sockets as pages hold them; four real pages are among them, and overviews fetch themselves anew."""
    real = {OVERVIEW: "overviews", EXECUTIONS: "lists of executions", TASKS: "lists of tasks"}
    for path in real:
        one.times(one.window(), path)
    watched = one.known["executions"]
    tasks = one.known["tasks"]
    kinds: list[tuple[dict[str, Any], str, Callable[[int, int], bool]]] = []
    for name, count in OPEN.items():
        for number in range(count - (name in real.values())):
            if name == "overviews":
                kinds.append(({"feed": True}, OVERVIEW, lambda pk, task: True))
            elif name == "lists of executions":
                kinds.append(({"feed": True, "executions": watched}, "", lambda pk, task: True))
            elif name == "lists of tasks":
                kinds.append(({"tasks": tasks}, "", lambda pk, task: task in tasks))
            else:
                mine = watched[number % len(watched)]
                kinds.append(({"executions": [mine]}, "", lambda pk, task, mine=mine: pk == mine))
    page = one.window()
    one.times(page, "/console/profile/")
    wanted = [{"subscribe": subscribe, "refetch": refetch} for subscribe, refetch, _ in kinds]
    page.evaluate(SOCKETS, {"pages": wanted, "every": 3000})
    time.sleep(2)
    daphne = one.stack.programs()["daphne"]
    process = world(one.stack, "publish", str(RATE), str(SECONDS))
    time.sleep(3)  # it starts
    before, begun = daphne.cpu_times(), time.monotonic()
    time.sleep(SECONDS - 5)
    after = daphne.cpu_times()
    cpu = (after.user + after.system - before.user - before.system) / (time.monotonic() - begun) * 100
    done = json.loads(process.communicate(timeout=120)[0])
    changed = {int(pk): task for pk, task in done["tasks"].items()}
    ids = [[pk for pk, task in changed.items() if knows(pk, task)] for _, _, knows in kinds]
    total = sum(map(len, ids))

    def known() -> int:
        return sum(page.evaluate(KNOWN, ids))

    deadline = time.monotonic() + 15
    while (arrived := known()) < total and time.monotonic() < deadline:
        time.sleep(0.5)
    late = page.evaluate("() => window.late")
    times = [slot * 5.0 + 5 for slot, count in enumerate(late) for _ in range(count // 10)]
    fetches = page.evaluate("() => window.fetches")
    sent, seconds = done["sent"], done["seconds"]
    opened = ", ".join(f"{count} {name}" for name, count in OPEN.items())
    what = f"{len(kinds)} sockets and {len(real)} real pages ({opened}), {sent / seconds:.0f} events a second"
    yield Measurement(
        "pages_fifty_cpu", round(cpu, 1), "% of a core", "lower", 100,
        f"one core of the web server: {what}; {fetches} fetches of overviews",
    )  # fmt: skip
    yield Measurement(
        "pages_fifty_delivered", round(arrived / total * 100, 3), "%", "higher", 100,
        f"the last state of each execution on each page: {arrived} of {total}",
    )  # fmt: skip
    yield promise("pages_fifty_latency", times, 1000, "from publishing to the page, every tenth event")
