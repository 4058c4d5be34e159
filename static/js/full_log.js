// The whole log from the host that keeps it: fetched with its progress shown, then what the downloads give.
import { $, $$, _ } from "./dom.js";
import { toast } from "./toast.js";

const MOST = 32 * 1024 * 1024; // bytes shown in the page; more is downloaded only

async function words(response) {
  const isJson = (response.headers.get("content-type") || "").includes("json");
  const body = isJson ? await response.json() : null;
  return (body && body.message) || _("The server answered with error %(status)s.", { status: response.status });
}

/** The text behind `url`; `progress(part)` is told how much has come, 0 to 1. */
async function fetchText(url, progress) {
  const response = await fetch(url, { credentials: "same-origin", headers: { "Accept-Language": document.documentElement.lang } });
  if (!response.ok) throw new Error(await words(response));
  const total = Number(response.headers.get("content-length")) || 0;
  if (total > MOST) {
    await response.body.cancel();
    return null;
  }
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  let received = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    received += value.length;
    text += decoder.decode(value, { stream: true });
    if (total) progress(received / total);
  }
  return text + decoder.decode();
}

function save(text, type, name) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  window.setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/** From now on the downloads give this text. */
function offer(text) {
  const facts = JSON.parse($("#log-facts").textContent);
  for (const link of $$("[data-download]")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      const kind = link.dataset.download;
      const whole = { ...facts, log: { output: text, truncated: false } };
      if (kind === "json") save(JSON.stringify(whole, null, 2), "application/json", `${facts.execution_id}.json`);
      else save(text, "text/plain", `${facts.execution_id}.txt`);
    });
  }
}

export function startFullLog(viewer) {
  const button = $("#log-full");
  if (!button) return;
  const bar = $("#log-progress");
  button.addEventListener("click", async () => {
    button.disabled = true;
    bar.hidden = false;
    try {
      const text = await fetchText(button.dataset.url, (part) => {
        bar.value = Math.round(100 * part);
      });
      if (text === null) {
        window.location.assign(button.dataset.url); // too large to show: the browser saves it
        return;
      }
      viewer.set(text);
      offer(text);
      button.hidden = true;
      $("#log-note").textContent = _("This is the whole output, from the host.");
    } catch (error) {
      toast(error.message, "error");
    } finally {
      button.disabled = false;
      bar.hidden = true;
    }
  });
}
