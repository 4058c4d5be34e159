// Live changes: one WebSocket a page. Reconnects with back-off, says so in the top bar, subscribes anew and lets
// pages catch up. Everything shown is also in the page the server made: without the socket a page is only not live.
import { $, _ } from "./dom.js";

const FIRST_WAIT = 500; // ms
const LAST_WAIT = 30000;
const STATE_AFTER = 1500; // ms of silence before the user is told

const listeners = {}; // event → functions
const wanted = { executions: new Set(), tasks: new Set(), feed: false, hosts: false, log: null };
let socket = null;
let wait = FIRST_WAIT;
let stateTimer = 0;
let connectedBefore = false;
let retryTimer = 0;
let failures = 0; // since the last connection

/** Whether the server asks for a log-in now; it refuses the socket without saying why. */
async function loggedOut() {
  try {
    const response = await fetch(document.documentElement.dataset.console, { method: "HEAD", credentials: "same-origin" });
    return response.redirected && response.url.includes("/login/");
  } catch (error) {
    return false; // the server is away, which is another matter
  }
}

/** Listen to snapshot, executions, output, hosts, denied (as the server sends them) and resumed (after a reconnect). */
export function on(event, work) {
  (listeners[event] = listeners[event] || []).push(work);
}

function emit(event, message) {
  for (const work of listeners[event] || []) work(message);
}

function send(message) {
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

/** Ask for changes: {executions: [ids], tasks: [ids], feed: true, hosts: true, log: id}. Connects when needed. */
export function subscribe(what) {
  for (const id of what.executions || []) wanted.executions.add(id);
  for (const id of what.tasks || []) wanted.tasks.add(id);
  if (what.feed) wanted.feed = true;
  if (what.hosts) wanted.hosts = true;
  if (what.log) wanted.log = what.log;
  if (socket) send({ action: "subscribe", ...what });
  else connect();
}

export function unsubscribe(what) {
  for (const id of what.executions || []) wanted.executions.delete(id);
  for (const id of what.tasks || []) wanted.tasks.delete(id);
  if (what.feed) wanted.feed = false;
  if (what.hosts) wanted.hosts = false;
  if (what.log) wanted.log = null;
  send({ action: "unsubscribe", ...what });
}

function subscribeAll() {
  const what = { executions: [...wanted.executions], tasks: [...wanted.tasks] };
  if (wanted.feed) what.feed = true;
  if (wanted.hosts) what.hosts = true;
  if (wanted.log) what.log = wanted.log;
  send({ action: "subscribe", ...what });
}

/** Say it in the top bar, but only when it lasts; "" takes it away. */
function showState(text) {
  const element = $("#live-state");
  if (!element) return;
  element.textContent = text;
  if (!text) {
    window.clearTimeout(stateTimer);
    stateTimer = 0;
    element.hidden = true;
  } else if (!stateTimer) {
    stateTimer = window.setTimeout(() => {
      element.hidden = false;
    }, STATE_AFTER);
  }
}

function connect() {
  const path = document.documentElement.dataset.live;
  if (!path) return;
  const scheme = window.location.protocol === "https:" ? "wss" : "ws";
  const mine = new WebSocket(`${scheme}://${window.location.host}${path}`);
  socket = mine;

  mine.addEventListener("open", () => {
    wait = FIRST_WAIT;
    failures = 0;
    showState("");
    subscribeAll();
    if (connectedBefore) emit("resumed", {});
    connectedBefore = true;
  });
  mine.addEventListener("message", (event) => {
    const message = JSON.parse(event.data);
    emit(message.event, message);
  });
  mine.addEventListener("close", async () => {
    socket = null;
    failures += 1;
    if (failures > 1 && (await loggedOut())) {
      showState(_("Logged out: reload the page"));
      return;
    }
    showState(_("Reconnecting…"));
    retryTimer = window.setTimeout(connect, wait * (0.75 + Math.random() / 2));
    wait = Math.min(wait * 2, LAST_WAIT);
  });
}

// A page that comes back from sleep or to the network need not wait for the timer.
for (const event of ["online", "focus"]) {
  window.addEventListener(event, () => {
    if (!socket && connectedBefore && failures > 0) {
      window.clearTimeout(retryTimer);
      wait = FIRST_WAIT;
      connect();
    }
  });
}
