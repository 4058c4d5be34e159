// Every page: menus, dialogs, toasts, shortcuts, side bar, themes, actions by POST, error reports.
import { $, $$, _ } from "./dom.js";
import { post, report } from "./api.js";
import * as dialog from "./dialog.js";
import * as menu from "./menu.js";
import * as shortcuts from "./shortcuts.js";
import * as time from "./time.js";
import * as toasts from "./toast.js";

const MAX_REPORTS = 5; // a page
const console_ = document.documentElement.dataset.console;
let reports = 0;

function reportError(message, source, stack) {
  reports += 1;
  if (!document.documentElement.dataset.live || reports > MAX_REPORTS) return;
  // The report is a courtesy: when it fails too, there is nobody left to tell.
  report(`${console_}client-errors/`, { message, source, stack, page: window.location.pathname }).catch(() => undefined);
}

window.addEventListener(
  "error",
  (event) => {
    if (event.target instanceof Element) {
      // A file that does not load; such an event stays at its element, hence the capturing.
      reportError("not loaded", event.target.src || event.target.href || event.target.tagName, "");
    } else {
      reportError(event.message, `${event.filename}:${event.lineno}`, event.error ? String(event.error.stack) : "");
    }
  },
  true,
);
document.addEventListener("securitypolicyviolation", (event) => {
  const what = `refused by the security policy: ${event.violatedDirective} ${event.blockedURI}`;
  reportError(what, `${event.sourceFile}:${event.lineNumber}`, "");
});
window.addEventListener("unhandledrejection", (event) => {
  reportError(String(event.reason), "promise", event.reason && event.reason.stack ? String(event.reason.stack) : "");
});

/** Buttons with formaction do one thing to one object: asked where dangerous, sent by POST, answered by a toast. */
async function act(button) {
  if (button.dataset.confirm && !(await dialog.confirm(button.dataset.confirm, button.dataset.confirmLabel))) return;
  button.setAttribute("aria-busy", "true");
  try {
    const answer = await post(button.getAttribute("formaction"));
    if (answer && answer.reload) {
      window.sessionStorage.setItem("qf.toast", answer.message);
      window.location.assign(answer.url || window.location.href);
      return;
    }
    toasts.toast(answer.message, "success", answer.url ? { url: answer.url, label: answer.link || _("Open") } : null);
    document.dispatchEvent(new CustomEvent("qf:acted", { detail: answer }));
  } catch (error) {
    toasts.toast(error.message, "error");
  } finally {
    button.removeAttribute("aria-busy");
  }
}

function startActions() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[form=row-action-form][formaction]");
    if (!button) return;
    event.preventDefault();
    act(button);
  });
  const kept = window.sessionStorage.getItem("qf.toast");
  if (kept) {
    window.sessionStorage.removeItem("qf.toast");
    toasts.toast(kept, "success");
  }
}

function startSidebar() {
  const sidebar = $("#sidebar");
  if (!sidebar) return;
  const button = $(".topbar-menu");
  const here = $("[aria-current]", sidebar);
  if (here) here.scrollIntoView({ block: "nearest" });
  const set = (open) => {
    sidebar.classList.toggle("open", open);
    $(".sidebar-shade").hidden = !open;
    button.setAttribute("aria-expanded", String(open));
    if (open) $("a", sidebar).focus();
    else if (sidebar.contains(document.activeElement)) button.focus();
  };
  for (const element of $$("[data-toggle-sidebar]")) {
    element.addEventListener("click", () => set(!sidebar.classList.contains("open")));
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && sidebar.classList.contains("open")) set(false);
  });
}

function startTheme() {
  for (const item of $$("[data-theme-set]")) {
    item.addEventListener("click", async () => {
      for (const other of $$("[data-theme-set]")) other.setAttribute("aria-checked", String(other === item));
      document.dispatchEvent(new CustomEvent("qf:theme", { detail: item.dataset.themeSet }));
      try {
        await post(`${console_}preferences/`, { theme: item.dataset.themeSet });
      } catch (error) {
        toasts.toast(error.message, "warning");
      }
    });
  }
}

function startLists() {
  const bar = $("[data-selection-bar]");
  if (bar) {
    const boxes = () => $$("input.action-select:checked").length;
    const show = () => bar.classList.toggle("idle", boxes() === 0);
    document.addEventListener("change", (event) => event.target.closest("#changelist-form") && window.setTimeout(show));
    show();
  }
  const form = $("#changelist-form");
  if (form) {
    form.addEventListener("submit", async (event) => {
      const select = $("select[name=action]", form);
      const option = select && select.selectedOptions[0];
      const ask = select && select.value && (JSON.parse(bar.dataset.confirm || "{}")[select.value] || "");
      if (!ask || form.dataset.sure) return;
      event.preventDefault();
      const count = $$("input.action-select:checked").length;
      if (await dialog.confirm(ask.replace("%(count)s", String(count)), option.textContent.trim())) {
        form.dataset.sure = "yes";
        form.submit();
      }
    });
  }
}

document.documentElement.classList.add("js");
toasts.start();
dialog.start();
menu.start();
time.start();
startActions();
startSidebar();
startTheme();
startLists();
shortcuts.start();
