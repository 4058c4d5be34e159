// Puts a cron expression together out of choices, for those who do not write them by heart.
import { $, $$ } from "./dom.js";

export function start(use) {
  const box = $("#cron-builder");
  if (!box) return;
  const field = (name) => $(`[data-cron=${name}]`, box);

  function fit() {
    for (const element of $$("[data-cron-for]", box)) element.hidden = !element.dataset.cronFor.split(" ").includes(field("kind").value);
    field("step").max = field("kind").value === "hours" ? 23 : 59;
  }

  function within(name) {
    const input = field(name);
    return Math.min(Math.max(Math.trunc(Number(input.value)) || 0, Number(input.min)), Number(input.max));
  }

  function expression() {
    const [hour, minute] = (field("time").value || "00:00").split(":").map(Number);
    const step = within("step");
    const days = $$("[data-cron-day]:checked", box).map((day) => day.dataset.cronDay);
    const kinds = {
      minutes: `${step > 1 ? `*/${step}` : "*"} * * * *`,
      hours: `${within("minute")} ${step > 1 ? `*/${step}` : "*"} * * *`,
      day: `${minute} ${hour} * * *`,
      week: `${minute} ${hour} * * ${days.join(",") || "*"}`,
      month: `${minute} ${hour} ${field("date").value} * *`,
    };
    return kinds[field("kind").value];
  }

  // Its inputs are no fields of the form.
  for (const type of ["input", "change"]) box.addEventListener(type, (event) => event.stopPropagation());
  field("kind").addEventListener("change", fit);
  field("use").addEventListener("click", () => use(expression()));
  fit();
}
