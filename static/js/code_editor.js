// Text areas for scripts ([data-code]): line numbers, Tab and Shift+Tab for the chosen lines, size, more room.
// Esc, then Tab leaves the area: the keyboard must not be caught in it.
import { $, _, h, icon } from "./dom.js";

const INDENT = "    ";
const LIMIT = 64 * 1024; // bytes that the server takes
const encoder = new TextEncoder();

/** Where the lines of the selection begin and end. */
function chosenLines(area) {
  const begin = area.value.lastIndexOf("\n", area.selectionStart - 1) + 1;
  const end = area.value.indexOf("\n", Math.max(area.selectionEnd - 1, area.selectionStart));
  return [begin, end < 0 ? area.value.length : end];
}

function shift(area, back) {
  if (!back && area.selectionStart === area.selectionEnd) {
    area.setRangeText(INDENT, area.selectionStart, area.selectionEnd, "end");
  } else {
    const [begin, end] = chosenLines(area);
    const lines = area.value.slice(begin, end).split("\n");
    const text = lines.map((line) => (back ? line.replace(/^( {1,4}|\t)/, "") : INDENT + line)).join("\n");
    area.setRangeText(text, begin, end, lines.length > 1 ? "select" : "end");
  }
  area.dispatchEvent(new Event("input", { bubbles: true }));
}

function keys(area) {
  let leaving = false;
  area.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      leaving = true;
      return;
    }
    if (event.key === "Tab" && !leaving) {
      event.preventDefault();
      shift(area, event.shiftKey);
    }
    if (event.key !== "Shift") leaving = false;
  });
}

export function start(area) {
  const gutter = h("div", { class: "editor-gutter", "aria-hidden": "true" });
  const size = h("span", { class: "num" });
  const room = h("button", { type: "button", class: "icon-button text", "aria-pressed": "false" }, icon("chevrons-up-down"), h("span", {}, _("More room")));
  const frame = h("div", { class: "editor" });
  area.replaceWith(frame);
  frame.append(h("div", { class: "editor-main" }, gutter, area), h("div", { class: "editor-foot" }, size, room));

  let shown = 0;
  const show = () => {
    const lines = area.value.split("\n").length;
    const bytes = encoder.encode(area.value).length;
    if (lines !== shown) gutter.textContent = Array.from({ length: lines }, (unused, index) => index + 1).join("\n");
    shown = lines;
    size.textContent = _("Lines: %(lines)s · bytes: %(bytes)s of %(limit)s", { lines, bytes, limit: LIMIT });
    size.classList.toggle("bad", bytes > LIMIT);
    gutter.scrollTop = area.scrollTop;
  };
  area.addEventListener("input", show);
  area.addEventListener("scroll", () => {
    gutter.scrollTop = area.scrollTop;
  });
  room.addEventListener("click", () => {
    const large = frame.classList.toggle("editor-large");
    room.setAttribute("aria-pressed", String(large));
    $("span", room).textContent = large ? _("Less room") : _("More room");
  });
  keys(area);
  show();
}
