// Which hosts a rule means, while one writes it.
import { $, debounce, h } from "./dom.js";
import { post } from "./api.js";

const form = $("#rule-form");
const text = $("#preview-text");
const hosts = $("#preview-hosts");
const empty = text.textContent;
let asked = 0;

function show(answer) {
  text.textContent = answer.message;
  hosts.replaceChildren(
    ...answer.hosts.map((host) =>
      h(
        "li",
        {},
        h(
          "span",
          { class: "rule-host" },
          h("span", { class: "truncate" }, host.name, " ", h("span", { class: "muted num" }, host.address)),
          " ",
          host.group ? h("span", { class: "tag" }, host.group) : null,
          host.taken_by ? h("span", { class: "muted" }, ` ${hosts.dataset.taken} “${host.taken_by}”`) : null,
        ),
      ),
    ),
    ...(answer.more ? [h("li", { class: "muted" }, hosts.dataset.more)] : []),
  );
}

async function preview() {
  const number = ++asked;
  const fields = new FormData(form);
  if (!["hostname", "cidr", "labels"].some((name) => fields.get(name).trim())) {
    text.textContent = empty;
    text.classList.remove("wrong");
    hosts.replaceChildren();
    return;
  }
  fields.append("rule", form.dataset.rule);
  try {
    const answer = await post(form.dataset.preview, fields);
    if (number !== asked) return; // an older question's answer
    text.classList.remove("wrong");
    show(answer);
  } catch (error) {
    if (number !== asked) return;
    text.textContent = error.message;
    text.classList.add("wrong");
    hosts.replaceChildren();
  }
}

form.addEventListener("input", debounce(preview, 300));
form.addEventListener("change", debounce(preview, 300));
preview();
