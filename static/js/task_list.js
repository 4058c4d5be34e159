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
      setPill($("[data-execution]", cell), row.status);
    } else {
      newest.set(row.task_id, row.id);
      const url = `${document.documentElement.dataset.console}executions_app/execution/${row.id}/change/`;
      cell.href = url;
      cell.replaceChildren(newPill(row), " ", h("small", { class: "muted" }, timeElement(row.scheduled_time, "ago")));
    }
  }
}

if (cells.length) {
  on("snapshot", (message) => show(message.executions));
  on("executions", (message) => show(message.items));
  subscribe({ tasks: [...newest.keys()], executions: [...newest.values()].filter(Boolean) });
}
