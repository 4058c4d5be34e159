// The task form: fields that fit the chosen schedule and executor, the next fire times as one types, checks on leaving
// a field, tabs in scripts, a question before leaving with changes.
import { $, $$, _, debounce, h, icon } from "./dom.js";
import { get } from "./api.js";
import { cronWords } from "./cron.js";
import { on, subscribe } from "./live.js";
import { newPill, setPill } from "./status.js";
import { formatAgo, formatTime, timeElement } from "./time.js";

const form = $("#task-form");
const SCHEDULE = ["schedule_type", "cron_expr", "interval_seconds", "run_at", "timezone", "start_at", "end_at", "misfire_policy", "misfire_grace", "calendar_id", "calendar_mode"];

function value(name) {
  const found = form.elements[name];
  if (!found) return "";
  if (found.type === "checkbox") return found.checked ? "on" : "off";
  return found.value;
}

// --- what fits the choice ---

function fit() {
  for (const element of $$("[data-when]", form)) {
    const [name, values] = element.dataset.when.split(":");
    element.hidden = !values.split(",").includes(value(name));
  }
  for (const label of $$(".segments label, .check-cards label", form)) {
    label.classList.toggle("checked", $("input", label).checked);
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

// --- checks on leaving a field ---

function trouble(input) {
  const state = input.validity;
  if (input.closest("[hidden]") || state.valid) return "";
  if (state.valueMissing) return _("This field is required.");
  if (state.rangeUnderflow || state.rangeOverflow) return _("Between %(low)s and %(high)s.", { low: input.min, high: input.max });
  if (state.badInput || state.stepMismatch) return _("A whole number is needed here.");
  if (state.tooLong) return _("At most %(count)s characters.", { count: input.maxLength });
  return _("This does not look right.");
}

function check(input) {
  const field = input.closest(".field");
  if (!field) return;
  const text = trouble(input);
  const old = $(".errorlist", field);
  if (old) old.remove();
  field.classList.toggle("errors", text !== "");
  input.setAttribute("aria-invalid", String(text !== ""));
  if (text) field.append(h("ul", { class: "errorlist" }, h("li", {}, text)));
}

// --- scripts: Tab indents, Esc then Tab leaves ---

function codeKeys(area) {
  let leaving = false;
  area.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      leaving = true;
      return;
    }
    if (event.key === "Tab" && !leaving && !event.shiftKey) {
      event.preventDefault();
      area.setRangeText("    ", area.selectionStart, area.selectionEnd, "end");
      area.dispatchEvent(new Event("input", { bubbles: true }));
    }
    leaving = false;
  });
}

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

// Safari 14 does not know the selector and throws.
function focusVisible(element) {
  try {
    return element.matches(":focus-visible");
  } catch (error) {
    return true;
  }
}

let changed = false;

form.addEventListener("input", (event) => {
  changed = true;
  fit();
  if (SCHEDULE.includes(event.target.name)) previewSoon();
  if (event.target.getAttribute("aria-invalid") === "true") check(event.target);
});
form.addEventListener("change", (event) => {
  fit();
  if (SCHEDULE.includes(event.target.name)) preview();
});
form.addEventListener("focusout", (event) => {
  if (event.target.matches("input:not([type=radio]):not([type=checkbox]), textarea, select") && changed) check(event.target);
});
form.addEventListener("focusin", (event) => {
  for (const label of $$(".segments label.focused", form)) label.classList.remove("focused");
  if (event.target.matches(".segments input") && focusVisible(event.target)) event.target.closest("label").classList.add("focused");
});
form.addEventListener("submit", () => {
  changed = false;
  const button = $(".submit-row .button-primary", form);
  button.setAttribute("aria-busy", "true");
});
window.addEventListener("beforeunload", (event) => {
  if (changed) event.preventDefault();
});
for (const button of $$("[data-cron-preset]")) {
  button.addEventListener("click", () => {
    const input = form.elements.cron_expr;
    input.value = button.dataset.cronPreset;
    input.dispatchEvent(new Event("input", { bubbles: true }));
    preview();
  });
}
for (const area of $$("[data-code]", form)) codeKeys(area);
fit();
preview();
startRecent();
const errors = $("#form-errors");
if (errors) errors.focus();
