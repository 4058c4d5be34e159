// Hosts between groups: dragged by mouse or finger (those chosen go along), or chosen and moved by the form.
import { $, $$ } from "./dom.js";
import { post } from "./api.js";
import { toast } from "./toast.js";

const form = $("#board-form");

function chosen() {
  return $$("input[name=host]:checked", form);
}

function showChosen() {
  const count = chosen().length;
  $("#chosen-count").textContent = count ? `(${count})` : "";
  for (const card of $$(".host-card", form)) card.classList.toggle("checked", $("input", card).checked);
}

function addToCount(list, by) {
  const element = $("[data-count]", list.closest(".host-column"));
  element.textContent = String(Number(element.textContent) + by);
}

async function dropped(event) {
  if (event.from === event.to) return;
  const card = event.item;
  const others = $("input", card).checked ? chosen().map((box) => box.closest(".host-card")).filter((other) => other !== card) : [];
  const fields = new URLSearchParams({ group: event.to.dataset.group });
  for (const moved of [card, ...others]) fields.append("host", moved.dataset.host);
  try {
    const answer = await post(window.location.pathname, fields);
    toast(answer.message, "success");
  } catch (error) {
    toast(error.message, "error");
    event.from.insertBefore(card, event.from.children[event.oldIndex] || null);
    return;
  }
  addToCount(event.from, -1);
  addToCount(event.to, 1);
  for (const other of others) {
    addToCount(other.parentElement, -1);
    addToCount(event.to, 1);
    event.to.append(other);
  }
  for (const box of chosen()) box.checked = false;
  showChosen();
}

form.addEventListener("change", showChosen);
showChosen();
for (const list of $$("[data-group]", form)) {
  window.Sortable.create(list, { group: "hosts", sort: false, animation: 120, delay: 150, delayOnTouchOnly: true, ghostClass: "host-ghost", onEnd: dropped });
}
