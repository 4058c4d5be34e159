// The form of a calendar: rows that can be added, and the next days as one changes it.
import { $, $$, debounce } from "./dom.js";
import { post } from "./api.js";
import { fieldsOf } from "./form_checks.js";

const DELAY = 400; // ms
const form = $("#calendar-form");

async function preview() {
  let answer;
  try {
    answer = await post(form.dataset.preview, fieldsOf(form));
  } catch (error) {
    $("#days-error").textContent = error.message;
    return;
  }
  $("#days-error").textContent = answer.error || "";
  if (!answer.html) return;
  const fresh = new DOMParser().parseFromString(answer.html, "text/html");
  $("#days").replaceChildren(...Array.from(fresh.body.children).map((element) => document.adoptNode(element)));
}

function addRow(box) {
  const total = $("[name$=TOTAL_FORMS]", box);
  const row = $("template", box).content.cloneNode(true);
  for (const element of $$("[name], [id], [for]", row)) {
    for (const name of ["name", "id", "for"]) {
      if (element.hasAttribute(name)) element.setAttribute(name, element.getAttribute(name).replace("__prefix__", total.value));
    }
  }
  total.value = Number(total.value) + 1;
  $("template", box).before(row);
  $("input:not([type=hidden])", $("template", box).previousElementSibling).focus();
}

const previewSoon = debounce(preview, DELAY);
form.addEventListener("input", previewSoon);
for (const box of $$("[data-rows]", form)) {
  const button = $("[data-add]", box);
  if (button) button.addEventListener("click", () => addRow(box));
}
if (!$("#days").children.length) preview();
