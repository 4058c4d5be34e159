// Terminal colours (SGR) to classes. Other escape sequences are dropped. A style lasts until the next one, also over lines.
const SEQUENCE = /\u001b(?:\[([0-9;:]*)([A-Za-z])|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[()][A-Z0-9]|[=>78cDEHM])/g;

function apply(codes, style) {
  const list = codes === "" ? [0] : codes.split(/[;:]/).map(Number);
  let next = { ...style };
  for (let i = 0; i < list.length; i += 1) {
    const code = list[i];
    if (code === 0) next = {};
    else if (code === 1) next.bold = true;
    else if (code === 2) next.dim = true;
    else if (code === 3) next.italic = true;
    else if (code === 4) next.underline = true;
    else if (code === 22) next = { ...next, bold: false, dim: false };
    else if (code === 23) next.italic = false;
    else if (code === 24) next.underline = false;
    else if (code >= 30 && code <= 37) next.color = code - 30;
    else if (code >= 90 && code <= 97) next.color = code - 90 + 8;
    else if (code === 39) next.color = undefined;
    else if (code === 38 || code === 48) {
      if (list[i + 1] === 5) {
        if (code === 38 && list[i + 2] < 16) next.color = list[i + 2];
        i += 2;
      } else if (list[i + 1] === 2) i += 4;
    }
  }
  return next;
}

function classes(style) {
  const names = [];
  for (const name of ["bold", "dim", "italic", "underline"]) if (style[name]) names.push(`ansi-${name}`);
  if (style.color !== undefined) names.push(`ansi-${style.color}`);
  return names.join(" ");
}

/** Split a line into [{text, css}]; returns also the style that the next line begins with. */
export function parseAnsi(line, style) {
  const pieces = [];
  let current = style || {};
  let from = 0;
  const add = (to) => {
    if (to > from) pieces.push({ text: line.slice(from, to), css: classes(current) });
  };
  if (line.includes("\u001b")) {
    for (const match of line.matchAll(SEQUENCE)) {
      add(match.index);
      from = match.index + match[0].length;
      if (match[2] === "m") current = apply(match[1], current);
    }
  }
  add(line.length);
  return { pieces, style: current };
}
