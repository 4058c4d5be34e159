// What long forms share: fields that fit the choices, segments and cards that show what is checked, checks by the server
// while one goes on, a question before leaving with changes.
import { $, $$ } from "./dom.js";
import * as checks from "./form_checks.js";

/** The value of a field of the form; "on" or "off" of a single check box. */
export function valueOf(form, name) {
  const found = form.elements[name];
  if (!found) return "";
  if (found.type === "checkbox") return found.checked ? "on" : "off";
  return found.value;
}

/** Show the elements with data-when="field:value,value" whose field has one of the values, hide the others. */
export function fit(form, value = (name) => valueOf(form, name)) {
  for (const element of $$("[data-when]", form)) {
    const [name, values] = element.dataset.when.split(":");
    element.hidden = !values.split(",").includes(value(name));
  }
  for (const label of $$(".segments label, .check-cards label", form)) {
    label.classList.toggle("checked", $("input", label).checked);
  }
}

// Safari 14 does not know the selector and throws.
function focusVisible(element) {
  try {
    return element.matches(":focus-visible");
  } catch (error) {
    return true;
  }
}

/** Keep the form fitting and checked; `onChange(event)` is called after every change. Returns {touch}: it has changed. */
export function start(form, { check, onChange = () => undefined, refit = () => fit(form) }) {
  let changed = false;
  const inline = checks.start(form, check);
  form.addEventListener("input", (event) => {
    changed = true;
    refit();
    onChange(event);
  });
  form.addEventListener("change", (event) => {
    refit();
    onChange(event);
  });
  form.addEventListener("focusout", (event) => {
    if (event.target.matches("input:not([type=radio]):not([type=checkbox]), textarea, select") && changed && event.target.name) inline.leave(event.target);
  });
  form.addEventListener("focusin", (event) => {
    for (const label of $$(".segments label.focused", form)) label.classList.remove("focused");
    if (event.target.matches(".segments input") && focusVisible(event.target)) event.target.closest("label").classList.add("focused");
  });
  form.addEventListener("submit", () => {
    changed = false;
    $(".submit-row .button-primary", form).setAttribute("aria-busy", "true");
  });
  window.addEventListener("beforeunload", (event) => {
    if (changed) event.preventDefault();
  });
  refit();
  const errors = $("#form-errors");
  if (errors) errors.focus();
  return {
    touch: () => {
      changed = true;
      refit();
    },
  };
}
