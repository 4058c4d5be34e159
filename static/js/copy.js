// Copy buttons: [data-copy=id of the element with the text].
import { $, $$, _ } from "./dom.js";
import { toast } from "./toast.js";

const SHOWN = 1500; // ms

/** Copy a text. Browsers give navigator.clipboard to secure pages only; the old way works on the others. */
export async function copyText(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "visually-hidden";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("copy refused");
}

async function copy(button) {
  const label = $("span", button);
  try {
    await copyText(document.getElementById(button.dataset.copy).textContent);
  } catch (error) {
    toast(_("The browser does not let the page copy. Select the text and copy it."), "warning");
    return;
  }
  const before = label.textContent;
  label.textContent = _("Copied");
  window.setTimeout(() => {
    label.textContent = before;
  }, SHOWN);
}

export function start() {
  for (const button of $$("[data-copy]")) button.addEventListener("click", () => copy(button));
}
