// A test run of what the form says, on one host; its state and output are asked for until it has ended.
import { $, h } from "./dom.js";
import { get, post } from "./api.js";
import { fieldsOf, showErrors } from "./form_checks.js";
import { newPill } from "./status.js";
import { formatDuration } from "./time.js";

const EVERY = 700; // ms

export function start(form) {
  const box = $("#test-run");
  if (!box) return;
  const [begin, stop, note, output, pill] = ["start", "stop", "note", "output", "pill"].map((name) => $(`#test-${name}`));
  const stateOf = (id) => box.dataset.state.replace("/0/", `/${id}/`);
  let current = 0;

  function show(state) {
    pill.replaceChildren(newPill(state));
    stop.hidden = !state.live;
    begin.hidden = state.live;
    const facts = [state.reason, state.exit_code === null ? "" : `exit ${state.exit_code}`, state.live ? "" : formatDuration(state.duration)];
    note.textContent = facts.filter(Boolean).join(" · ");
    output.hidden = !(state.output || state.error);
    output.replaceChildren(state.output, state.error ? h("span", { class: "bad" }, state.error) : "");
  }

  async function follow(id) {
    while (current === id) {
      try {
        const state = await get(stateOf(id));
        show(state);
        if (!state.live) return;
      } catch (error) {
        note.textContent = error.message;
        if (error.status) return; // else the server is away for a moment
      }
      await new Promise((resolve) => window.setTimeout(resolve, EVERY));
    }
  }

  begin.addEventListener("click", async () => {
    begin.setAttribute("aria-busy", "true");
    note.textContent = "";
    try {
      const answer = await post(box.dataset.url, fieldsOf(form));
      current = answer.id;
      follow(answer.id);
    } catch (error) {
      note.textContent = error.message;
      showErrors(form, error.errors);
    } finally {
      begin.removeAttribute("aria-busy");
    }
  });
  stop.addEventListener("click", async () => {
    try {
      show(await post(stateOf(current)));
    } catch (error) {
      note.textContent = error.message;
    }
  });
}
