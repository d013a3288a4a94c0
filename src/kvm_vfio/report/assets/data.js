// SPDX-License-Identifier: GPL-2.0-only
// What the page works on, unpacked, and the state at a row.

const $ = (id) => document.getElementById(id);

const inflate = async (base64) => {
  const bytes = Uint8Array.fromBase64
    ? Uint8Array.fromBase64(base64)
    : Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).text();
};

// Steps become sums, in place: the numbers themselves.
const summed = (steps, kind) => {
  const sums = new kind(steps.length);
  for (let i = 0, sum = 0; i < steps.length; i++) sums[i] = sum += steps[i];
  return sums;
};

const unpacked = (text) => {
  const data = JSON.parse(text);
  const { rows, spans } = data;
  const size = rows.kind.length;
  rows.size = size;
  rows.n = summed(rows.n, Int32Array);
  rows.at = summed(rows.at, Float64Array);
  rows.text = size ? rows.text.split("\n") : [];
  rows.start = summed(rows.count, Int32Array); // where the nodes of the next row begin
  const failed = new Uint8Array(size);
  for (const row of rows.failed) failed[row] = 1;
  rows.isFailed = failed;
  // What came of a call is shown with it: the last row of the same number.
  rows.last = new Int32Array(size);
  for (let i = size - 1; i >= 0; i--)
    rows.last[i] = i + 1 < size && rows.n[i + 1] === rows.n[i] && rows.kind[i] !== "d" ? rows.last[i + 1] : i;
  for (const column of ["what", "x", "y", "begin", "end", "text"])
    spans[column] = Int32Array.from(spans[column]);
  spans.size = spans.x.length;
  data.nodes = data.nodes.map(([name, kind, slot], index) => ({ index, name, kind, slot }));
  return data;
};

const nodesOf = (rows, row) => {
  const end = rows.start[row];
  return rows.nodes.slice(end - rows.count[row], end);
};

// Every span that a row lies in.
const spansAt = (data, row) => {
  const { spans, rows } = data;
  const now = rows.size ? rows.last[row] : 0;
  const found = [];
  for (let i = 0; i < spans.size; i++) {
    const end = spans.end[i];
    if (spans.begin[i] <= now && (end < 0 || end > now))
      found.push({ what: spans.whats[spans.what[i]], x: spans.x[i], y: spans.y[i], text: spans.texts[spans.text[i]] });
  }
  return found;
};

const details = (data) => {
  let packed = null;
  const known = new Map();
  return async (row) => {
    packed ??= $("packed-details").textContent.trim().split("\n");
    const chunk = Math.floor(row / data.chunk);
    if (!known.has(chunk)) {
      if (known.size > 20) known.clear();
      known.set(chunk, (await inflate(packed[chunk])).split("\n"));
    }
    return JSON.parse(known.get(chunk)[row % data.chunk]);
  };
};

const element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
};

const milliseconds = (nanoseconds) => {
  const ms = nanoseconds / 1e6;
  return ms >= 10000 ? `${(ms / 1000).toFixed(3)} s` : `${ms.toFixed(3)} ms`;
};

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
