// The overview, live: when something changed, its cards are fetched anew, at most every few seconds.
import { $ } from "./dom.js";
import { on, subscribe } from "./live.js";

const EVERY = 3000; // ms
const IDLE = 60000; // ms; hosts come and go without an execution

let timer = 0;
let last = Date.now();

async function refresh() {
  timer = 0;
  last = Date.now();
  if (document.hidden) return;
  let response;
  try {
    response = await fetch(window.location.href, { credentials: "same-origin" });
  } catch (error) {
    return; // the server is away; the top bar says so
  }
  if (!response.ok || response.redirected) return;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const selector of [".kpis", ".board"]) {
    const old = $(selector);
    const next = fresh.querySelector(selector);
    // Not under somebody's hands: an open table or a focused link would be lost.
    if (!old || !next || old.contains(document.activeElement) || $("details[open]", old)) continue;
    old.replaceWith(document.adoptNode(next));
  }
}

function soon() {
  if (!timer) timer = window.setTimeout(refresh, Math.max(300, last + EVERY - Date.now()));
}

on("executions", soon);
on("resumed", soon);
window.setInterval(soon, IDLE);
document.addEventListener("visibilitychange", () => !document.hidden && soon());
subscribe({ feed: true });
