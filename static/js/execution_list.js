// The execution list, live: rows change in place; new ones come in at the top of the first page, or are counted.
import { $, $$, _, h } from "./dom.js";
import { on, subscribe } from "./live.js";
import { isBad, isLive, newPill, setPill, typeLabel } from "./status.js";
import * as suggest from "./suggest.js";
import { formatDuration, timeElement } from "./time.js";
import { toast } from "./toast.js";

const MAX_ROWS = 100;

const table = $("#result_list tbody");
const here = `${document.documentElement.dataset.console}executions_app/execution/`;
const settings = $("#live-list").dataset; // feed: on | off; task: id; insert: on | off
let waiting = 0;

/** A menu is of what the row was when it was made: that of a changed row is asked for when it is opened. */
function outdate(tr) {
  const button = $("[data-menu]", tr);
  if (!button || button.getAttribute("aria-expanded") === "true") return;
  delete button.dataset.menu;
  button.dataset.rowMenu = "";
}

async function openFresh(button) {
  const host = button.closest(".menu-host");
  const id = $("[data-execution]", button.closest("tr")).dataset.execution;
  button.setAttribute("aria-busy", "true");
  try {
    const response = await fetch(`${here}${id}/menu/`, { credentials: "same-origin" });
    if (!response.ok || response.redirected) throw new Error(_("The server answered with error %(status)s.", { status: response.status }));
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html").body.firstElementChild;
    host.replaceWith(document.adoptNode(fresh));
    $("[data-menu]", fresh).click();
  } catch (error) {
    toast(error.message, "error");
    button.removeAttribute("aria-busy");
  }
}

function fill(tr, row) {
  const pill = $("[data-execution]", tr);
  if (pill.dataset.status !== String(row.status)) outdate(tr);
  setPill(pill, row);
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
  const link = $(".field-task_cell a", tr);
  link.href = `${here}${row.id}/change/`;
  link.textContent = row.task_name;
  $(".field-task_cell .cell-sub", tr).textContent = `#${row.id}`;
  $(".field-status_cell", tr).prepend(newPill(row));
  $(".field-client_cell", tr).textContent = row.client_id || "—";
  $(".field-type_cell", tr).textContent = typeLabel(row.execution_type);
  $(".field-scheduled_cell", tr).replaceChildren(timeElement(row.scheduled_time));
  const name = `${row.task_name} #${row.id}`;
  const retry = $(".retry-now", tr);
  if (retry) {
    retry.setAttribute("formaction", `${here}${row.id}/retry/`);
    retry.setAttribute("aria-label", _("Retry %(label)s", { label: name }));
  }
  $("[data-row-menu]", tr).setAttribute("aria-label", _("Actions of %(label)s", { label: name }));
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

const narrow = $("#narrow");
if (narrow) {
  suggest.start(narrow);
  // What is empty stays out of the address.
  narrow.addEventListener("submit", () => {
    for (const field of $$("input", narrow)) field.disabled = !field.value;
  });
}

if (table) {
  table.addEventListener("click", (event) => {
    const button = event.target.closest("[data-row-menu]");
    if (button) openFresh(button);
  });
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
