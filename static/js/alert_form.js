// The forms of alert rules, channels and silences: fields that fit the choices, rows of tasks, how the message will read,
// a test of the channel.
import { $, $$, _, debounce, h, icon } from "./dom.js";
import { post } from "./api.js";
import { fieldsOf } from "./form_checks.js";
import * as parts from "./form_parts.js";
import * as suggest from "./suggest.js";

const DELAY = 300; // ms
const form = $("#alert-form");

// --- tasks, one a row ---

function startTasks(page) {
  const add = $("#add-task", form);
  if (!add) return;
  const rows = $("#task-rows", form);
  add.addEventListener("click", () => {
    rows.append($("#task-row", form).content.cloneNode(true));
    $("input", rows.lastElementChild).focus();
    page.touch();
  });
  rows.addEventListener("click", (event) => {
    const button = event.target.closest("[data-remove-row]");
    if (!button) return;
    button.closest(".task-row").remove();
    page.touch();
    add.focus();
  });
}

// --- how the message will read ---

let asked = 0;

async function preview() {
  const number = ++asked;
  let answer;
  try {
    answer = await post(form.dataset.preview, fieldsOf(form));
  } catch (error) {
    answer = { error: error.message };
  }
  if (number !== asked) return; // an older question's answer
  $("#preview-error").textContent = answer.error || "";
  if (answer.error) return;
  $("#preview").lang = answer.language;
  $("#preview strong").textContent = answer.title;
  $("#preview p").textContent = answer.body;
}

function startPlaceholders(changed) {
  let target = form.elements.body;
  for (const input of [form.elements.title, form.elements.body]) input.addEventListener("focus", () => (target = input));
  for (const button of $$("[data-insert]", form)) {
    button.addEventListener("click", () => {
      const text = `{{ ${button.dataset.insert} }}`;
      target.setRangeText(text, target.selectionStart, target.selectionEnd, "end");
      target.focus();
      target.dispatchEvent(new Event("input", { bubbles: true }));
      changed();
    });
  }
}

// --- a test of the channel ---

function outcome(text, good) {
  const kind = good ? "success" : "error";
  $("#test-outcome").replaceChildren(h("div", { class: `notice notice-${kind}` }, icon(good ? "circle-check" : "circle-alert"), h("p", {}, text)));
}

async function showDeliveries() {
  const response = await fetch(window.location.href, { credentials: "same-origin" });
  if (!response.ok || response.redirected) return;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html").querySelector("[data-part=deliveries]");
  if (fresh) $("[data-part=deliveries]").replaceWith(document.adoptNode(fresh));
}

async function test(button) {
  button.setAttribute("aria-busy", "true");
  button.disabled = true;
  $("#test-outcome").replaceChildren(h("p", { class: "hint" }, _("Sending…")));
  try {
    const answer = await post(button.dataset.url);
    outcome(answer.message, true);
  } catch (error) {
    outcome(error.message, false);
  }
  try {
    await showDeliveries();
  } catch (error) {
    // The outcome is shown; the list comes with the next page.
  }
  button.disabled = false;
  button.removeAttribute("aria-busy");
  button.focus();
}

const previewSoon = debounce(preview, DELAY);
const page = parts.start(form, { check: form.dataset.check, onChange: () => form.dataset.preview && previewSoon() });
suggest.start(form);
startTasks(page);
if ($("[data-insert]", form)) startPlaceholders(previewSoon);
const button = $("#test-channel");
if (button) button.addEventListener("click", () => test(button));
