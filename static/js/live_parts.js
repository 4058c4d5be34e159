// Pages with figures, live: when something changed, the page is fetched anew and its [data-part]s take the places of
// the old ones, at most every few seconds. #live-parts says what to listen to: data-feed=on, data-task=ID, data-hosts=on;
// data-every=MS for what no event tells of, as long as the page says so.
import { $, $$ } from "./dom.js";
import { on, subscribe } from "./live.js";

const EVERY = 3000; // ms
const IDLE = 60000; // ms

const settings = $("#live-parts").dataset;
let timer = 0;
let ticking = 0;
let pace = 0; // ms
let last = Date.now();

function tick(every) {
  if (every === pace) return;
  pace = every;
  window.clearInterval(ticking);
  ticking = window.setInterval(soon, every);
}

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
  const now = fresh.querySelector("#live-parts");
  tick((now && Number(now.dataset.every)) || IDLE);
  for (const old of $$("[data-part]")) {
    const next = fresh.querySelector(`[data-part="${old.dataset.part}"]`);
    // Not under somebody's hands: an open table or a focused link would be lost.
    if (!next || old.contains(document.activeElement) || $("details[open], [aria-expanded=true]", old)) continue;
    old.replaceWith(document.adoptNode(next));
  }
}

function soon() {
  if (!timer) timer = window.setTimeout(refresh, Math.max(300, last + Math.min(EVERY, pace) - Date.now()));
}

on("executions", soon);
on("hosts", soon);
on("resumed", soon);
document.addEventListener("qf:acted", soon);
tick(Number(settings.every) || IDLE);
document.addEventListener("visibilitychange", () => !document.hidden && soon());
subscribe({ feed: settings.feed === "on", hosts: settings.hosts === "on", tasks: settings.task ? [Number(settings.task)] : [] });
