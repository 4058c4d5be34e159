// Small helpers for building elements. Text always goes in as text, never as markup.

/** Make an element: h("a", {href: "/x", class: "y"}, "text", otherElement). Functions as values are listeners. */
export function h(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined) element.append(child);
  }
  return element;
}

/** An icon of the sprite, for decoration only. */
export function icon(name, css) {
  const ns = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(ns, "svg");
  svg.setAttribute("class", `icon ${css || ""}`);
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(ns, "use");
  use.setAttribute("href", `${document.documentElement.dataset.icons}#${name}`);
  svg.append(use);
  return svg;
}

export function $(selector, root) {
  return (root || document).querySelector(selector);
}

export function $$(selector, root) {
  return Array.from((root || document).querySelectorAll(selector));
}

/** Call `work` once the calls have stopped for `delay` ms. */
export function debounce(work, delay) {
  let timer = 0;
  return (...args) => {
    window.clearTimeout(timer);
    timer = window.setTimeout(() => work(...args), delay);
  };
}

/** The words of the page's language; gettext comes from the catalogue script, which may be missing offline. */
export function _(text, values) {
  const words = window.gettext ? window.gettext(text) : text;
  return values ? words.replace(/%\((\w+)\)s/g, (match, name) => (name in values ? String(values[name]) : match)) : words;
}

export const language = document.documentElement.lang || "zh-hans";
