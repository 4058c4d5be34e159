// Which columns a list has, and the filters that it opens with, kept for the user.
import { $, $$ } from "./dom.js";
import { post } from "./api.js";
import { toast } from "./toast.js";

const box = $("#list-view");

async function save(fields) {
  try {
    const answer = await post(box.dataset.url, fields);
    window.sessionStorage.setItem("qf.toast", answer.message);
    window.location.reload();
  } catch (error) {
    toast(error.message, "error");
  }
}

if (box) {
  box.addEventListener("click", (event) => {
    const button = event.target.closest("[data-view]");
    if (!button) return;
    if (button.dataset.view === "columns") save([["columns", "1"], ...$$("input:checked", box).map((input) => ["shown", input.value])]);
    else save([["query", button.dataset.view === "keep" ? box.dataset.query : ""]]);
  });
}
