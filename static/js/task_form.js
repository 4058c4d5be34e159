// The task form: fields that fit the chosen schedule and executor, the next fire times as one types, groups, tasks that
// it runs after, a question before leaving with changes.
import { $, $$, _, debounce, h, icon } from "./dom.js";
import { get } from "./api.js";
import { cronWords } from "./cron.js";
import * as code from "./code_editor.js";
import * as builder from "./cron_builder.js";
import * as parts from "./form_parts.js";
import { on, subscribe } from "./live.js";
import { newPill, setPill } from "./status.js";
import * as suggest from "./suggest.js";
import * as testRun from "./test_run.js";
import { formatAgo, formatTime, timeElement } from "./time.js";

const form = $("#task-form");
const SCHEDULE = ["schedule_type", "cron_expr", "interval_seconds", "run_at", "timezone", "start_at", "end_at", "misfire_policy", "misfire_grace", "calendar_id", "calendar_mode"];

function value(name) {
  if (name === "has_dependencies") return $$("#dependency-rows .dependency-row").length > 1 ? "several" : "";
  return parts.valueOf(form, name);
}

// --- what fits the choice ---

function fit() {
  parts.fit(form, value);
  findGroups();
  countHosts();
}

// --- groups: search among many, and how many hosts are meant ---

function findGroups() {
  const search = $("#group-search");
  if (!search || value("is_global") === "on") return;
  const words = search.value.trim().toLowerCase();
  for (const label of $$(".check-cards label[data-when]", form)) {
    label.hidden = !$("strong", label).textContent.toLowerCase().includes(words) && !$("input", label).checked;
  }
}

function countHosts() {
  const count = $("#hosts-chosen");
  const chosen = $$("input[name=group_ids]:checked", form);
  count.hidden = value("is_global") === "on" || !chosen.length;
  const sum = (name) => chosen.reduce((all, input) => all + Number(input.dataset[name]), 0);
  count.textContent = count.dataset.words.replace("{online}", sum("online")).replace("{total}", sum("total"));
}

// --- tasks that it runs after ---

function startDependencies(page) {
  const add = $("#add-dependency");
  if (!add) return;
  const rows = $("#dependency-rows");
  add.addEventListener("click", () => {
    rows.append(document.getElementById("dependency-row").content.cloneNode(true));
    $("input", rows.lastElementChild).focus();
    fit();
  });
  rows.addEventListener("click", (event) => {
    const button = event.target.closest("[data-remove-row]");
    if (!button) return;
    button.closest(".dependency-row").remove();
    page.touch();
    add.focus();
  });
}

// --- parameters of a plugin, from the table of what it takes ---

function startParams() {
  const area = form.elements.config_params;
  for (const button of $$("[data-add-param]", form)) {
    button.addEventListener("click", () => {
      const line = `${button.dataset.addParam}=`;
      if (!area.value.split("\n").some((text) => text.startsWith(line))) area.value += `${area.value && !area.value.endsWith("\n") ? "\n" : ""}${line}`;
      area.focus();
      area.dispatchEvent(new Event("input", { bubbles: true }));
    });
  }
}

// --- next fire times ---

function fireItem(text, index, zone) {
  const time = h("time", { datetime: text }, formatTime(text, zone));
  return h("li", {}, h("span", {}, String(index + 1)), time, h("small", {}, formatAgo(text)));
}

function showFires(answer) {
  const list = $("#fires");
  const note = $("#fires-note");
  const words = $("#cron-words");
  const isCron = value("schedule_type") === "cron";
  words.hidden = !isCron || !value("cron_expr").trim();
  $("#fires-zone").textContent = answer.timezone || "";
  if (answer.error) {
    list.replaceChildren();
    note.textContent = isCron && !value("cron_expr").trim() ? _("Write a cron expression, or choose one of the presets.") : answer.error;
    words.className = "cron-words bad";
    words.replaceChildren(icon("circle-alert"), answer.error);
    return;
  }
  list.replaceChildren(...answer.times.map((time, index) => fireItem(time, index, answer.timezone)));
  const texts = { none: _("Runs only by hand, by the API or after another task."), fixed_delay: _("Counted from the end of the run before.") };
  note.textContent = answer.times.length ? texts[value("schedule_type")] || "" : texts[value("schedule_type")] || _("It will not fire any more.");
  words.className = "cron-words";
  words.replaceChildren(icon("clock"), cronWords(value("cron_expr").trim()) || _("Valid expression"));
}

let request = null;

async function preview() {
  if (request) request.abort();
  request = new AbortController();
  const fields = {};
  for (const name of SCHEDULE) fields[name] = value(name);
  try {
    showFires(await get(form.dataset.preview, fields, request.signal));
  } catch (error) {
    if (error.name === "AbortError") return;
    $("#fires").replaceChildren();
    $("#fires-note").textContent = error.message;
  }
}

const previewSoon = debounce(preview, 250);

// --- recent executions, live ---

function startRecent() {
  const list = $("#recent");
  if (!list) return;
  const show = (rows) => {
    for (const row of rows.sort((a, b) => a.id - b.id)) {
      const pill = $(`[data-execution="${row.id}"]`);
      if (pill) {
        setPill(pill, row);
      } else if (list.tagName === "OL") {
        const url = `${document.documentElement.dataset.console}executions_app/execution/${row.id}/change/`;
        list.prepend(h("li", {}, h("a", { href: url }, newPill(row), h("span", { class: "truncate" }, row.client_id || "—"), timeElement(row.scheduled_time, "ago"))));
        while (list.children.length > 8) list.lastElementChild.remove();
      }
    }
  };
  on("snapshot", (message) => show(message.executions));
  on("executions", (message) => show(message.items));
  subscribe({ tasks: [Number(list.dataset.task)], executions: $$("[data-execution]", list).map((pill) => Number(pill.dataset.execution)) });
}

function useCron(expression) {
  const input = form.elements.cron_expr;
  input.value = expression;
  input.dispatchEvent(new Event("input", { bubbles: true }));
  preview();
}

for (const button of $$("[data-cron-preset]")) button.addEventListener("click", () => useCron(button.dataset.cronPreset));
for (const area of $$("[data-code]", form)) code.start(area);
builder.start(useCron);
suggest.start(form);
testRun.start(form);
const page = parts.start(form, {
  check: form.dataset.check,
  refit: fit,
  onChange: (event) => {
    if (SCHEDULE.includes(event.target.name)) (event.type === "change" ? preview : previewSoon)();
  },
});
startDependencies(page);
startParams();
preview();
startRecent();
