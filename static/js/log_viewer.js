// A log that grows: lines in chunks the browser need not lay out while they are out of sight, follow and pause, search,
// wrapping. Text becomes text nodes only.
import { $, _, debounce, h } from "./dom.js";
import { parseAnsi } from "./ansi.js";
import { copyText } from "./copy.js";

const CHUNK = 200; // lines
const TROUBLE = /\b(error|errors|failed|failure|fatal|panic|exception|traceback|denied|refused)\b|错误|失败|异常/i;
const NEAR_END = 24; // px from the bottom that still count as "at the end"
const BY_HAND = 1000; // ms after a wheel's, finger's or key's move in which the view scrolls because of it

export class LogViewer {
  /** `root` holds .log-view, and of controls those it wants: [data-log=follow|wrap|search|next|previous|count|copy]. */
  constructor(root) {
    this.root = root;
    this.view = $(".log-view", root);
    this.lines = []; // {element, text, style}
    this.chunk = null;
    this.open = false; // the last line has no newline yet
    this.style = {};
    this.following = true;
    this.hits = [];
    this.at = -1;
    this.wire();
  }

  control(name) {
    return $(`[data-log=${name}]`, this.root);
  }

  wire() {
    const follow = this.control("follow");
    const wrap = this.control("wrap");
    const search = this.control("search");
    follow.addEventListener("click", () => this.follow(!this.following));
    wrap.addEventListener("click", () => {
      const on = this.view.classList.toggle("wrap");
      wrap.setAttribute("aria-pressed", String(on));
    });
    this.watchHands();
    // Scrolling up pauses, scrolling to the end follows again. What moves by itself, as chunks come into sight and turn
    // out to be higher than the browser thought, or as the text is set anew, is no wish of anybody.
    this.view.addEventListener("scroll", () => {
      const rest = this.view.scrollHeight - this.view.scrollTop - this.view.clientHeight;
      const byHand = this.held || Date.now() - this.touched < BY_HAND;
      if (!this.following && rest <= 2 && byHand) this.follow(true);
      else if (this.following && rest > NEAR_END) {
        if (byHand) this.follow(false);
        else this.toEnd();
      }
    });
    search.addEventListener("input", debounce(() => this.search(search.value), 120));
    search.addEventListener("keydown", (event) => {
      if (event.key === "Enter") {
        event.preventDefault();
        this.go(event.shiftKey ? -1 : 1);
      }
    });
    this.control("next").addEventListener("click", () => this.go(1));
    this.control("previous").addEventListener("click", () => this.go(-1));
    const copy = this.control("copy");
    copy.addEventListener("click", async () => {
      await copyText(this.text());
      copy.classList.add("done");
      window.setTimeout(() => copy.classList.remove("done"), 1200);
    });
  }

  /** Whether somebody scrolls: `held` while a pointer is down (the scroll bar), `touched` when anything else did. */
  watchHands() {
    this.held = false;
    this.touched = 0;
    const touch = () => (this.touched = Date.now());
    for (const type of ["wheel", "touchmove", "keydown"]) this.view.addEventListener(type, touch, { passive: true });
    this.view.addEventListener("pointerdown", () => (this.held = true));
    for (const type of ["pointerup", "pointercancel"]) {
      window.addEventListener(type, () => {
        if (this.held) touch();
        this.held = false;
      });
    }
  }

  follow(on) {
    this.following = on;
    const button = this.control("follow");
    button.setAttribute("aria-pressed", String(on));
    $("span", button).textContent = on ? _("Following") : _("Paused");
    if (on) this.toEnd();
  }

  toEnd() {
    this.view.scrollTop = this.view.scrollHeight;
  }

  text() {
    return this.lines.map((line) => line.text).join("\n");
  }

  clear() {
    this.view.replaceChildren();
    this.lines = [];
    this.chunk = null;
    this.open = false;
    this.style = {};
  }

  /** Show this text and nothing else; who reads on above the end stays there. */
  set(text) {
    const at = this.view.scrollTop;
    this.touched = 0; // what moves because of this moves by itself
    this.clear();
    this.append(text);
    if (!this.following) this.view.scrollTop = at;
  }

  append(text) {
    if (!text) return;
    const parts = text.replace(/\r\n/g, "\n").split("\n");
    parts.forEach((part, index) => {
      if (index === 0 && this.open) this.extend(part);
      else if (index < parts.length - 1 || part !== "") this.add(part);
    });
    this.open = parts[parts.length - 1] !== "";
    this.view.classList.toggle("is-empty", this.lines.length === 0);
    if (this.query) this.search(this.query);
    if (this.following) this.toEnd();
  }

  add(text) {
    if (this.lines.length % CHUNK === 0) {
      this.chunk = h("div", { class: "log-chunk" });
      // What is out of sight does not count its lines: each chunk goes on from its own number.
      this.chunk.style.counterReset = `line ${this.lines.length}`;
      this.view.append(this.chunk);
    }
    const line = { element: h("div", { class: "log-line" }), text, style: this.style };
    this.lines.push(line);
    this.chunk.append(line.element);
    this.render(line);
  }

  extend(text) {
    const line = this.lines[this.lines.length - 1];
    line.text += text;
    this.render(line);
  }

  render(line) {
    // A carriage return goes back to the line's beginning: what a progress bar last said is what counts.
    const shown = line.text.slice(line.text.replace(/\r+$/, "").lastIndexOf("\r") + 1);
    const { pieces, style } = parseAnsi(shown, line.style);
    this.style = style;
    line.plain = pieces.map((piece) => piece.text).join("");
    line.element.classList.toggle("trouble", TROUBLE.test(line.plain));
    line.element.replaceChildren(...pieces.map((piece) => (piece.css ? h("span", { class: piece.css }, piece.text) : piece.text)));
  }

  search(query) {
    this.query = query;
    const needle = query.toLowerCase();
    for (const line of this.hits) this.unmark(line);
    this.hits = needle ? this.lines.filter((line) => line.plain.toLowerCase().includes(needle)) : [];
    for (const line of this.hits) this.mark(line, needle);
    if (this.at >= this.hits.length) this.at = -1;
    this.count();
  }

  unmark(line) {
    const style = this.style;
    this.render(line);
    this.style = style;
    line.element.classList.remove("hit");
  }

  mark(line, needle) {
    const lower = line.plain.toLowerCase();
    const children = [];
    let from = 0;
    for (let at = lower.indexOf(needle); at >= 0; at = lower.indexOf(needle, from)) {
      children.push(line.plain.slice(from, at), h("mark", {}, line.plain.slice(at, at + needle.length)));
      from = at + needle.length;
    }
    children.push(line.plain.slice(from));
    line.element.replaceChildren(...children);
  }

  go(step) {
    if (!this.hits.length) return;
    if (this.at >= 0) this.hits[this.at].element.classList.remove("hit");
    this.at = (this.at + step + this.hits.length) % this.hits.length;
    const line = this.hits[this.at];
    this.follow(false);
    line.element.classList.add("hit");
    line.element.scrollIntoView({ block: "center" });
    this.count();
  }

  /** Search for this, and go to the line of this number (from 1), or to the first match. */
  show(query, number) {
    this.control("search").value = query;
    this.follow(false);
    this.search(query);
    const line = this.lines[number - 1];
    const place = this.hits.indexOf(line);
    this.at = Math.max(place, 0) - 1; // the first match where the line has none that is seen
    this.go(1);
    if (!this.hits.length && line) line.element.scrollIntoView({ block: "center" });
  }

  count() {
    const element = this.control("count");
    if (!this.query) element.textContent = "";
    else if (!this.hits.length) element.textContent = _("No match");
    else element.textContent = `${this.at + 1 || "–"} / ${this.hits.length}`;
  }
}
