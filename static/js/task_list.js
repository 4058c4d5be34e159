// The task list: cron in words, the last execution of each task live.
import { $, $$, h } from "./dom.js";
import { cronWords } from "./cron.js";
import { on, subscribe } from "./live.js";
import { newPill, setPill } from "./status.js";
import { timeElement } from "./time.js";

for (const element of $$("[data-cron]")) {
  const words = cronWords(element.dataset.cron);
  const sub = element.nextElementSibling;
  if (words && sub) {
    sub.title = `${words} · ${sub.textContent}`;
    sub.textContent = words;
  }
}

const cells = $$("[data-last-of]");
const newest = new Map(); // task → id of the execution shown
for (const cell of cells) {
  const pill = $("[data-execution]", cell);
  newest.set(Number(cell.dataset.lastOf), pill ? Number(pill.dataset.execution) : 0);
}

function show(rows) {
  for (const row of rows) {
    const known = newest.get(row.task_id);
    if (known === undefined || row.id < known) continue;
    let cell = $(`[data-last-of="${row.task_id}"]`);
    if (cell.tagName !== "A") {
      const link = h("a", { class: "last-execution", "data-last-of": row.task_id });
      cell.replaceWith(link);
      cell = link;
    }
    if (row.id === known) {
      setPill($("[data-execution]", cell), row);
    } else {
      newest.set(row.task_id, row.id);
      const url = `${document.documentElement.dataset.console}executions_app/execution/${row.id}/change/`;
      cell.href = url;
      cell.replaceChildren(newPill(row), " ", h("small", { class: "muted" }, timeElement(row.scheduled_time, "ago")));
    }
  }
}

// A next fire time that has passed is asked for anew, with all others.
const EVERY = 4000; // ms

async function refreshNext() {
  const passed = $$("[data-next-of] time").some((time) => new Date(time.dateTime) < Date.now());
  if (!passed || document.hidden) return;
  const response = await fetch(window.location.href, { credentials: "same-origin" });
  if (!response.ok || response.redirected) return;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const cell of $$("[data-next-of]")) {
    const next = fresh.querySelector(`[data-next-of="${cell.dataset.nextOf}"]`);
    if (next) cell.replaceWith(document.adoptNode(next));
  }
}

async function keepNext() {
  try {
    await refreshNext();
  } catch (error) {
    // The server is away; the top bar says so.
  }
  window.setTimeout(keepNext, EVERY);
}

if (cells.length) {
  window.setTimeout(keepNext, EVERY);
  on("snapshot", (message) => show(message.executions));
  on("executions", (message) => show(message.items));
  subscribe({ tasks: [...newest.keys()], executions: [...newest.values()].filter(Boolean) });
}
