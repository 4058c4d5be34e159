// One execution, live: status, times, and its log as it grows.
import { $, $$, _ } from "./dom.js";
import { startFullLog } from "./full_log.js";
import { LogFollower } from "./log_follower.js";
import { LogViewer } from "./log_viewer.js";
import { on, subscribe } from "./live.js";
import { isLive, setPill } from "./status.js";
import { formatDuration, formatTime, timeElement } from "./time.js";

const page = $("#execution").dataset; // id, log: on | off
const id = Number(page.id);
const RETRYABLE = [4, 5, 6]; // failed, timed out, cancelled

const viewer = page.log === "on" ? new LogViewer($("#log")) : null;
let follower = null;

function fact(name, text) {
  $(`[data-fact=${name}]`).textContent = text;
}

function factTime(name, value) {
  $(`[data-fact=${name}]`).replaceChildren(timeElement(value));
}

function show(row) {
  setPill($("h1 .pill"), row);
  factTime("start", row.start_time);
  factTime("end", row.end_time);
  fact("exit", row.exit_code === null ? "—" : String(row.exit_code));
  fact("retries", `${row.retry_count} / ${row.max_retries}`);
  const duration = $("[data-fact=duration]");
  if (row.status === 2 && row.start_time) {
    duration.dataset.runningSince = row.start_time;
  } else {
    delete duration.dataset.runningSince;
    duration.textContent = formatDuration(row.duration);
  }
  const reason = $("#reason");
  reason.hidden = !row.failure_reason;
  $("p", reason).textContent = row.reason_label;
  const retry = $("#retry-note");
  retry.hidden = !row.next_retry_at;
  if (row.next_retry_at) $("p", retry).textContent = _("The next attempt begins at %(time)s.", { time: formatTime(row.next_retry_at) });
  for (const element of $$("[data-while=live]")) element.hidden = !isLive(row.status);
  for (const element of $$("[data-while=retryable]")) element.hidden = !RETRYABLE.includes(row.status);
  for (const element of $$("[data-while=ended]")) element.hidden = isLive(row.status);
  if (viewer) $(".log-view").dataset.empty = isLive(row.status) ? _("Waiting for output…") : _("No output.");
}

let ended = page.live !== "on";
let begun = null; // when the attempt that is shown began

// From log search: ?find=TEXT&line=NUMBER. Stored text that comes again must not lose the place.
const query = new URLSearchParams(window.location.search);
let wanted = viewer && query.get("find") ? { text: query.get("find"), line: Number(query.get("line")) || 0 } : null;

function showWanted() {
  if (wanted) viewer.show(wanted.text, wanted.line);
}

function showOutput(message) {
  if (message.snapshot) {
    follower.snapshot(message.text, ended);
    showWanted();
  } else follower.increment(message.offset, message.text);
}

if (viewer) {
  follower = new LogFollower(viewer, $("#log-text").textContent, () => subscribe({ log: id }));
  startFullLog(viewer);
  showWanted();
  for (const type of ["wheel", "keydown", "pointerdown", "input"]) {
    $("#log").addEventListener(type, () => (wanted = null), { passive: true });
  }
  on("output", (message) => message.execution === id && showOutput(message));
}
function take(rows) {
  for (const row of rows) {
    if (row.id !== id) continue;
    show(row);
    if (follower && begun && row.start_time && row.start_time !== begun && isLive(row.status)) follower.restart();
    begun = row.start_time || begun;
    // The end brings the stored text, which is what counts.
    if (!ended && !isLive(row.status)) {
      ended = true;
      if (viewer) subscribe({ log: id });
      window.setTimeout(() => viewer && subscribe({ log: id }), 1000);
      if ($("#log-more") && follower && follower.full) $("#log-more").hidden = false;
    }
  }
}
on("snapshot", (message) => take(message.executions));
on("executions", (message) => take(message.items));
subscribe(viewer ? { executions: [id], log: id } : { executions: [id] });
