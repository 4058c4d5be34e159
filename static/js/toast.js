// Short messages at the corner; those of the page itself and those of scripts.
import { $, $$, _, h, icon } from "./dom.js";

const ICONS = { success: "circle-check", error: "circle-alert", warning: "triangle-alert", info: "info" };
const STAY = { success: 5000, info: 6000, warning: 10000 }; // ms; errors stay

function arm(element, kind) {
  const close = () => element.remove();
  element.querySelector("[data-toast-close]").addEventListener("click", close);
  if (STAY[kind]) {
    let timer = window.setTimeout(close, STAY[kind]);
    element.addEventListener("mouseenter", () => window.clearTimeout(timer));
    element.addEventListener("mouseleave", () => {
      timer = window.setTimeout(close, STAY[kind] / 2);
    });
  }
}

/** Show a message. `kind`: success, info, warning, error. `link`: {url, label}. */
export function toast(message, kind = "info", link = null) {
  const text = h("p", {}, message, link ? " " : null, link ? h("a", { href: link.url }, link.label) : null);
  const close = h("button", { type: "button", class: "icon-button", "data-toast-close": true, "aria-label": _("Close") }, icon("x"));
  const element = h("div", { class: `toast toast-${kind}` }, icon(ICONS[kind]), text, close);
  $("#toasts").append(element);
  arm(element, kind);
}

export function start() {
  for (const element of $$("[data-toast]")) {
    arm(element, (element.className.match(/toast-(\w+)/) || [])[1]);
  }
}
