// Adding a host: copy buttons, and the hosts that come in by the token as they do.
import { $, _, h } from "./dom.js";
import { get } from "./api.js";
import { start } from "./copy.js";
import { toast } from "./toast.js";

const EVERY = 2000; // ms
const section = $("#joined");
let known = 0;

function show(answer) {
  $("#joined-count").textContent = `${answer.uses} / ${answer.max_uses}`;
  if (answer.uses > known) {
    const [newest] = answer.hosts;
    toast(newest ? _("“%(name)s” is connected.", { name: newest.name }) : _("A host is connected."), "success");
    known = answer.uses;
  }
  $("#joined-waiting").hidden = answer.uses >= answer.max_uses;
  $("#joined-list").replaceChildren(
    ...answer.hosts.map((host) =>
      h("li", {}, h("a", { href: host.url }, h("span", { class: "pill pill-success" }, _("Connected")), h("span", { class: "truncate" }, host.name), h("code", {}, host.address))),
    ),
  );
}

async function poll() {
  try {
    const answer = await get(section.dataset.url);
    show(answer);
    if (answer.uses >= answer.max_uses) return;
  } catch (error) {
    if (error.status === 401 || error.status === 403) {
      toast(error.message, "error");
      return;
    }
    // The server is away; the next question may find it again.
  }
  window.setTimeout(poll, EVERY);
}

start();
poll();
