// Dialogs with a focus trap. <dialog> is too new for the browsers we promise.
import { $, $$ } from "./dom.js";

const FOCUSABLE = "a[href], button:not([disabled]), input:not([disabled]), select, textarea, [tabindex='0']";

let current = null; // {shade, before, done}

function finish(answer) {
  if (!current) return;
  const { shade, before, done } = current;
  current = null;
  shade.hidden = true;
  if (before && before.isConnected) before.focus();
  done(answer);
}

/** Open a dialog of the page by its id; resolves to true (ok) or false (cancelled). */
export function openDialog(id) {
  finish(false);
  const shade = document.getElementById(id);
  return new Promise((resolve) => {
    current = { shade, before: document.activeElement, done: resolve };
    shade.hidden = false;
    const target = $("[data-dialog-ok]", shade) || $("[data-dialog-cancel]", shade);
    target.focus();
  });
}

/** Ask before something dangerous. `label` is the button's. */
export function confirm(text, label, danger = true) {
  $("#confirm-text").textContent = text;
  const ok = $("#confirm-dialog [data-dialog-ok]");
  if (label) ok.textContent = label;
  ok.classList.toggle("button-danger", danger);
  ok.classList.toggle("button-primary", !danger);
  return openDialog("confirm-dialog");
}

export function isOpen() {
  return current !== null;
}

export function start() {
  document.addEventListener("click", (event) => {
    if (!current) return;
    if (event.target.closest("[data-dialog-ok]")) finish(true);
    else if (event.target.closest("[data-dialog-cancel]") || event.target === current.shade) finish(false);
  });
  document.addEventListener("keydown", (event) => {
    if (!current) return;
    if (event.key === "Escape") {
      event.preventDefault();
      finish(false);
    } else if (event.key === "Tab") {
      const all = $$(FOCUSABLE, current.shade);
      const edge = event.shiftKey ? all[0] : all[all.length - 1];
      if (document.activeElement === edge || !current.shade.contains(document.activeElement)) {
        event.preventDefault();
        (event.shiftKey ? all[all.length - 1] : all[0]).focus();
      }
    }
  });
}
