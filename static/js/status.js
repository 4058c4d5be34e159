// What an execution's status looks like; its words come with each row, in the user's language.
import { _, h } from "./dom.js";

const COLORS = { 1: "pending", 2: "running", 3: "success", 4: "failure", 5: "timeout", 6: "cancelled" };
const TYPES = { 1: _("Scheduled"), 2: _("Manual"), 3: _("Dependency"), 4: _("Replay") };

export const PENDING = 1;
export const RUNNING = 2;

export function isLive(status) {
  return status === PENDING || status === RUNNING;
}

export function isBad(status) {
  return status === 4 || status === 5;
}

export function typeLabel(type) {
  return TYPES[type] || "";
}

/** Show a row's status in a pill; it flashes when that is news. */
export function setPill(pill, row) {
  const before = pill.dataset.status;
  if (before === String(row.status)) return;
  pill.className = `pill pill-${COLORS[row.status]}`;
  pill.dataset.status = row.status;
  pill.textContent = row.status_label;
  if (before) {
    void pill.offsetWidth; // so that the animation starts again
    pill.classList.add("pill-changed");
  }
}

export function newPill(row) {
  const pill = h("span", { class: "pill", "data-execution": row.id });
  setPill(pill, row);
  return pill;
}
