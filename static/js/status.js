// What an execution's codes look like; the server's own list is quartzflow/execution_status.py.
import { _, h } from "./dom.js";

const STATUSES = {
  1: { color: "pending", label: _("Pending") },
  2: { color: "running", label: _("Running") },
  3: { color: "success", label: _("Success") },
  4: { color: "failure", label: _("Failed") },
  5: { color: "timeout", label: _("Timed out") },
  6: { color: "cancelled", label: _("Cancelled") },
};
const TYPES = { 1: _("Scheduled"), 2: _("Manual"), 3: _("Dependency"), 4: _("Replay") };
const REASONS = {
  exit_code: _("Non-zero exit code"),
  timeout: _("Ran out of time"),
  agent_lost: _("The agent was lost"),
  agent_restarted: _("The agent restarted"),
  no_online_client: _("No host was online"),
  push_failed: _("The host did not take the instruction"),
  expired: _("Not started in time"),
  rejected: _("Refused by the host"),
  start_failed: _("Could not be started"),
  executor_error: _("The executor failed"),
  cancelled_by_user: _("Cancelled by a user"),
  concurrency: _("The one before was still running"),
  task_disabled: _("The task was disabled"),
  task_changed: _("The task was changed"),
  task_deleted: _("The task was deleted"),
};

export const PENDING = 1;
export const RUNNING = 2;

export function isLive(status) {
  return status === PENDING || status === RUNNING;
}

export function isBad(status) {
  return status === 4 || status === 5;
}

export function statusLabel(status) {
  return STATUSES[status].label;
}

export function typeLabel(type) {
  return TYPES[type] || "";
}

export function reasonLabel(reason) {
  return REASONS[reason] || reason;
}

/** Turn a pill to another status; it flashes when that is news. */
export function setPill(pill, status) {
  const before = pill.dataset.status;
  if (before === String(status)) return;
  pill.className = `pill pill-${STATUSES[status].color}`;
  pill.dataset.status = status;
  pill.textContent = statusLabel(status);
  if (before) {
    void pill.offsetWidth; // so that the animation starts again
    pill.classList.add("pill-changed");
  }
}

export function newPill(row) {
  const pill = h("span", { class: "pill", "data-execution": row.id });
  setPill(pill, row.status);
  return pill;
}
