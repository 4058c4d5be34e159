// Names offered while one types: inputs with data-suggest=URL, which answers {names: […]} to ?q=, and a list=datalist.
import { debounce, h } from "./dom.js";
import { get } from "./api.js";

const DELAY = 180; // ms

async function offer(input) {
  let answer;
  try {
    answer = await get(input.dataset.suggest, { q: input.value.trim() });
  } catch (error) {
    return; // a name can be written without help, too
  }
  document.getElementById(input.getAttribute("list")).replaceChildren(...answer.names.map((name) => h("option", { value: name })));
}

const offerSoon = debounce(offer, DELAY);

export function start(root) {
  for (const type of ["focusin", "input"]) {
    root.addEventListener(type, (event) => event.target.matches("[data-suggest]") && offerSoon(event.target));
  }
}
