// The form of log search: a time of one's own takes the place of a chosen one; what is empty stays out of the address.
import { $, $$ } from "./dom.js";
import * as suggest from "./suggest.js";

const form = $("#find-logs");
const time = $("#find-time");
const own = [$("#find-from"), $("#find-to")];

suggest.start(form);

for (const input of own) input.addEventListener("input", () => input.value && (time.value = ""));
time.addEventListener("change", () => time.value && own.forEach((input) => (input.value = "")));
form.addEventListener("submit", () => {
  for (const field of $$("input, select", form)) field.disabled = !field.value;
});
// A page that comes back from the browser's memory comes with what was switched off.
window.addEventListener("pageshow", () => {
  for (const field of $$("input, select", form)) field.disabled = false;
});
