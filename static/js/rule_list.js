// Assignment rules in their order: dragged by the handle, or moved by the arrow keys on it.
import { $, $$ } from "./dom.js";
import { post } from "./api.js";
import { toast } from "./toast.js";

const list = $("#rule-list");
let saved = list ? order() : [];
let saving = Promise.resolve();

function order() {
  return $$("[data-rule]", list).map((item) => item.dataset.rule);
}

function restore() {
  for (const id of saved) list.append($(`[data-rule="${id}"]`, list));
}

/** One after the other: the server gets every order that there was, the last one last. */
function save() {
  const ids = order();
  saving = saving.then(async () => {
    const fields = new URLSearchParams();
    for (const id of ids) fields.append("rule", id);
    try {
      const answer = await post(list.dataset.url, fields);
      saved = ids;
      toast(answer.message, "success");
    } catch (error) {
      restore();
      toast(error.message, "error");
    }
  });
}

function moveByKey(event) {
  const handle = event.target.closest(".rule-handle");
  if (!handle || (event.key !== "ArrowUp" && event.key !== "ArrowDown")) return;
  event.preventDefault();
  const item = handle.closest("[data-rule]");
  const other = event.key === "ArrowUp" ? item.previousElementSibling : item.nextElementSibling;
  if (!other) return;
  if (event.key === "ArrowUp") other.before(item);
  else other.after(item);
  handle.focus();
  save();
}

if (list) {
  list.addEventListener("keydown", moveByKey);
  window.Sortable.create(list, {
    handle: ".rule-handle",
    animation: 120,
    ghostClass: "rule-ghost",
    onEnd: (event) => {
      if (event.oldIndex !== event.newIndex) save();
    },
  });
}
