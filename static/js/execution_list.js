// The execution list, live: rows change in place; new ones come in at the top of the first page, or are counted.
import { $, $$, _, h } from "./dom.js";
import { on, subscribe } from "./live.js";
import { isBad, isLive, newPill, setPill, typeLabel } from "./status.js";
import { formatDuration, timeElement } from "./time.js";

const MAX_ROWS = 100;

const table = $("#result_list tbody");
const settings = $("#live-list").dataset; // feed: on | off; task: id; insert: on | off
let waiting = 0;

function fill(tr, row) {
  setPill($("[data-execution]", tr), row);
  tr.classList.toggle("row-failed", isBad(row.status));
  $(".field-start_cell", tr).replaceChildren(timeElement(row.start_time));
  const duration = $(".field-duration_cell", tr);
  if (row.status === 2 && row.start_time) {
    duration.replaceChildren(h("span", { class: "num", "data-running-since": row.start_time }, formatDuration(Math.max(0, Date.now() - new Date(row.start_time)))));
  } else {
    duration.replaceChildren(h("span", { class: "num" }, formatDuration(row.duration)));
  }
  const reason = $(".field-status_cell .cell-sub", tr);
  if (reason) reason.textContent = row.reason_label;
}

function newRow(row) {
  const tr = document.getElementById("execution-row").content.firstElementChild.cloneNode(true);
  const url = `${document.documentElement.dataset.console}executions_app/execution/${row.id}/change/`;
  const link = $(".field-task_cell a", tr);
  link.href = url;
  link.textContent = row.task_name;
  $(".field-task_cell .cell-sub", tr).textContent = `#${row.id}`;
  $(".field-status_cell", tr).prepend(newPill(row));
  $(".field-client_cell", tr).textContent = row.client_id || "—";
  $(".field-type_cell", tr).textContent = typeLabel(row.execution_type);
  $(".field-scheduled_cell", tr).replaceChildren(timeElement(row.scheduled_time));
  const box = $("input.action-select", tr);
  if (box) box.value = row.id;
  tr.classList.add("row-new");
  fill(tr, row);
  return tr;
}

function count() {
  let bar = $(".new-rows");
  if (!bar) {
    bar = h("button", { type: "button", class: "new-rows", click: () => window.location.reload() });
    $("#changelist").prepend(bar);
  }
  bar.textContent = _("%(count)s new executions: show them", { count: waiting });
}

function show(rows) {
  const fresh = [];
  for (const row of rows.sort((a, b) => a.id - b.id)) {
    const pill = $(`[data-execution="${row.id}"]`, table);
    if (pill) fill(pill.closest("tr"), row);
    else if (isLive(row.status) || row.end_time) fresh.push(row);
  }
  const newest = Number(($("[data-execution]", table) || { dataset: { execution: 0 } }).dataset.execution);
  for (const row of fresh) {
    if (row.id <= newest || (settings.task && Number(settings.task) !== row.task_id)) continue;
    if (settings.insert === "on") {
      table.prepend(newRow(row));
    } else {
      waiting += 1;
      count();
    }
  }
  while (table.children.length > MAX_ROWS) table.lastElementChild.remove();
}

if (table) {
  on("snapshot", (message) => show(message.executions));
  on("executions", (message) => show(message.items));
  // What came while the connection was lost is not in any snapshot of ours.
  on("resumed", () => {
    if (settings.insert === "on") window.location.reload();
    else count();
  });
  subscribe({
    executions: $$("[data-execution]", table).map((pill) => Number(pill.dataset.execution)),
    tasks: settings.task ? [Number(settings.task)] : [],
    feed: settings.feed === "on",
  });
} else if (settings.feed === "on" || settings.task) {
  // An empty list: the first execution brings the table.
  on("executions", () => window.location.reload());
  subscribe({ tasks: settings.task ? [Number(settings.task)] : [], feed: settings.feed === "on" });
}
