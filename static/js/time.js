// Times in the user's zone, as the server writes them, and "how long ago" kept true.
import { $$, _, h, language } from "./dom.js";

const zone = document.documentElement.dataset.timeZone || undefined;
const parts = new Intl.DateTimeFormat("en-CA", {
  timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});
const relative = new Intl.RelativeTimeFormat(language, { numeric: "always" });
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

/** "2026-01-31 08:00:00" in the user's zone. */
export function formatTime(value, timeZone) {
  if (!value) return "—";
  const format = timeZone ? new Intl.DateTimeFormat("en-CA", { ...parts.resolvedOptions(), timeZone }) : parts;
  const found = {};
  for (const part of format.formatToParts(new Date(value))) found[part.type] = part.value;
  return `${found.year}-${found.month}-${found.day} ${found.hour}:${found.minute}:${found.second}`;
}

/** A <time> in the user's zone, as the server's `moment` tag makes it. */
export function timeElement(value, style = "full") {
  if (!value) return h("span", { class: "muted" }, "—");
  const full = formatTime(value);
  return h("time", { datetime: value, "data-time": style, title: full }, style === "ago" ? formatAgo(value) : full);
}

/** "3 minutes ago", "in 5 seconds". */
export function formatAgo(value, now = Date.now()) {
  const seconds = Math.round((new Date(value).getTime() - now) / 1000);
  if (Math.abs(seconds) < 5) return _("just now");
  const [unit, size] = UNITS.find(([, length]) => Math.abs(seconds) >= length);
  return relative.format(Math.trunc(seconds / size), unit);
}

/** A duration of ms: "350 ms", "2.4 s", "3 m 05 s", "1 h 02 m". */
export function formatDuration(ms) {
  if (ms === null || ms === undefined) return "—";
  if (ms < 1000) return `${ms} ms`;
  if (ms < 60000) return `${(ms / 1000).toFixed(1)} s`;
  const minutes = Math.floor(ms / 60000);
  if (minutes < 60) return `${minutes} m ${String(Math.round(ms / 1000) - minutes * 60).padStart(2, "0")} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} m`;
}

function refresh() {
  for (const element of $$("time[data-time=ago]")) element.textContent = formatAgo(element.dateTime);
  for (const element of $$("[data-running-since]")) {
    element.textContent = formatDuration(Math.max(0, Date.now() - new Date(element.dataset.runningSince).getTime()));
  }
}

export function start() {
  refresh();
  window.setInterval(refresh, 1000);
}
