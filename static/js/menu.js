// Menus: a button with aria-expanded, arrow keys, Home, End, Esc, Tab; menus of table rows lie over the table's edge.
import { $, $$ } from "./dom.js";

let open = null; // {button, menu}

function items(menu) {
  return $$("[role^=menuitem]", menu);
}

export function close(giveFocusBack) {
  if (!open) return;
  const { button, menu } = open;
  open = null;
  menu.hidden = true;
  menu.classList.remove("fixed");
  menu.removeAttribute("style");
  button.setAttribute("aria-expanded", "false");
  if (giveFocusBack) button.focus();
}

function place(button, menu) {
  if (!button.closest(".results, .table-scroll")) return;
  // The table scrolls sideways and would cut the menu off.
  const at = button.getBoundingClientRect();
  menu.classList.add("fixed");
  const below = window.innerHeight - at.bottom > menu.offsetHeight + 12;
  menu.style.top = `${below ? at.bottom + 4 : Math.max(8, at.top - menu.offsetHeight - 4)}px`;
  menu.style.left = `${Math.max(8, at.right - menu.offsetWidth)}px`;
}

function show(button, last) {
  close(false);
  const menu = document.getElementById(button.dataset.menu);
  // What is in a row's menu is inert until it is wanted: a list of 100 rows has a thousand items with their icons.
  const inert = $("template", menu);
  if (inert) inert.replaceWith(inert.content);
  menu.hidden = false;
  button.setAttribute("aria-expanded", "true");
  open = { button, menu };
  place(button, menu);
  const all = items(menu);
  for (const item of all) item.tabIndex = -1;
  const target = last ? all[all.length - 1] : all[0];
  if (target) target.focus();
}

function onKey(event) {
  const button = event.target.closest ? event.target.closest("[data-menu]") : null;
  if (button && !open && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
    event.preventDefault();
    show(button, event.key === "ArrowUp");
    return;
  }
  if (!open) {
    if (event.key === "Escape") for (const filter of $$("details.filter[open]")) closeFilter(filter);
    return;
  }
  const all = items(open.menu);
  const at = all.indexOf(document.activeElement);
  const moves = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 };
  if (event.key in moves) {
    event.preventDefault();
    all[(moves[event.key] + all.length) % all.length].focus();
  } else if (event.key === "Escape") {
    event.preventDefault();
    event.stopPropagation();
    close(true);
  } else if (event.key === "Tab") {
    close(false);
  } else if (event.key.length === 1 && !event.ctrlKey && !event.metaKey && !event.altKey && event.key !== " ") {
    const found = all.find((item) => item.textContent.trim().toLowerCase().startsWith(event.key.toLowerCase()));
    if (found) found.focus();
  }
}

function closeFilter(filter) {
  const hadFocus = filter.contains(document.activeElement);
  filter.open = false;
  if (hadFocus) $("summary", filter).focus();
}

export function start() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-menu]");
    if (button) {
      event.preventDefault();
      if (open && open.button === button) close(true);
      else show(button, false);
      return;
    }
    if (open && !open.menu.contains(event.target)) close(false);
    else if (open && event.target.closest("[role^=menuitem]")) close(false);
    for (const filter of $$("details.filter[open]")) {
      if (!filter.contains(event.target)) filter.open = false;
    }
  });
  document.addEventListener("keydown", onKey, true);
  window.addEventListener("resize", () => close(false));
  document.addEventListener("scroll", () => open && open.menu.classList.contains("fixed") && close(false), true);
}
