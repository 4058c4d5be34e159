// Keyboard shortcuts, which a user can switch off; "?" lists those of the page.
import { $, $$, _, h } from "./dom.js";
import { isOpen, openDialog } from "./dialog.js";

const PAUSE = 1200; // ms between two keys of one shortcut
const shortcuts = []; // {keys: ["g", "t"], label, work}

/** Add a shortcut: one key or two in a row ("g t"). */
export function shortcut(keys, label, work) {
  shortcuts.push({ keys: keys.split(" "), label, work });
}

function list() {
  $("#shortcut-list").replaceChildren(
    ...shortcuts.map((entry) => h("div", {}, h("dt", {}, entry.label), h("dd", {}, entry.keys.map((key) => h("kbd", {}, key))))),
  );
  openDialog("shortcuts-dialog");
}

function byKeys(keys) {
  return shortcuts.find((entry) => entry.keys.join(" ") === keys);
}

function typing(target) {
  return target.closest && target.closest("input:not([type=checkbox]):not([type=radio]), textarea, select, [contenteditable]");
}

export function start() {
  shortcut("?", _("This list"), list);
  for (const element of $$("[data-open-shortcuts]")) element.addEventListener("click", list);
  if (document.documentElement.dataset.shortcuts === "off") return;

  const search = $("[data-shortcut='/']");
  if (search) shortcut("/", _("Search"), () => search.focus());
  for (const [key, label] of [["n", _("New")], ["e", _("Edit")], ["r", _("Run now")]]) {
    const element = $(`[data-shortcut='${key}']`);
    if (element) shortcut(key, label, () => element.click());
  }
  const links = $$(".sidebar-nav a").slice(0, 9);
  links.forEach((link, index) => shortcut(`g ${index + 1}`, link.textContent.trim(), () => link.click()));

  let first = "";
  let at = 0;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isOpen() || typing(event.target)) return;
    const both = Date.now() - at < PAUSE && first ? `${first} ${event.key}` : "";
    const found = [both, event.key].map(byKeys).find(Boolean);
    first = found ? "" : event.key;
    at = Date.now();
    if (found) {
      event.preventDefault();
      found.work();
    }
  });
}
