// Checks of a form before it is sent: by the browser on leaving a field, then by the server, which says of the fields
// that one has been in what saving would say.
import { $, _, debounce, h } from "./dom.js";
import { post } from "./api.js";

const DELAY = 500; // ms

function trouble(input) {
  const state = input.validity;
  if (input.closest("[hidden]") || state.valid) return "";
  if (state.valueMissing) return _("This field is required.");
  if (state.rangeUnderflow || state.rangeOverflow) return _("Between %(low)s and %(high)s.", { low: input.min, high: input.max });
  if (state.badInput || state.stepMismatch) return _("A whole number is needed here.");
  if (state.tooLong) return _("At most %(count)s characters.", { count: input.maxLength });
  return _("This does not look right.");
}

function show(field, texts) {
  const old = $(".errorlist", field);
  if (old) old.remove();
  field.classList.toggle("errors", texts.length > 0);
  const input = $("input, textarea, select", field);
  if (input) input.setAttribute("aria-invalid", String(texts.length > 0));
  if (texts.length) field.append(h("ul", { class: "errorlist" }, texts.map((text) => h("li", {}, text))));
}

/** Everything that the form would send. */
export function fieldsOf(form) {
  return [...new FormData(form).entries()].filter(([name]) => name !== "csrfmiddlewaretoken");
}

/** Show errors by field; those of fields that are not there are left out. Returns whether any is shown. */
export function showErrors(form, errors) {
  let any = false;
  for (const [name, texts] of Object.entries(errors)) {
    const field = $(`[data-field="${name}"]`, form);
    if (!field) continue;
    show(field, texts);
    any = true;
  }
  return any;
}

export function start(form, url) {
  const visited = new Set();

  async function ask() {
    let answer;
    try {
      answer = await post(url, fieldsOf(form));
    } catch (error) {
      return; // saving checks it all again
    }
    for (const field of visited) {
      const input = $("input, textarea, select", field);
      if (!field.hidden && !(input && trouble(input))) show(field, answer.errors[field.dataset.field] || []);
    }
  }

  const askSoon = debounce(ask, DELAY);

  function leave(input) {
    const field = input.closest("[data-field]");
    if (!field) return;
    visited.add(field);
    const text = trouble(input);
    if (text) show(field, [text]);
    else askSoon();
  }

  form.addEventListener("change", (event) => {
    if (event.target.matches("select, input[type=checkbox], input[type=radio]")) leave(event.target);
  });
  form.addEventListener("input", (event) => {
    if (event.target.getAttribute("aria-invalid") === "true") leave(event.target);
  });
  return { leave };
}
