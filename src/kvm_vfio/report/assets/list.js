// SPDX-License-Identifier: GPL-2.0-only
// The calls: only the rows that can be seen are in the document.

const HEIGHT = 24;

const makeList = (data, choose) => {
  const { rows } = data;
  const box = $("list");
  const spacer = box.querySelector(".spacer");
  const pool = [];
  let shown = new Int32Array(0);
  let lowered = null;
  let chosen = -1;

  const draw = () => {
    const first = Math.max(0, Math.floor(box.scrollTop / HEIGHT) - 5);
    const count = Math.min(shown.length - first, Math.ceil(box.clientHeight / HEIGHT) + 10);
    while (pool.length < count) {
      const number = element("span", { class: "n" });
      const text = element("span");
      const line = element("div", { role: "option" }, number, text);
      line.parts = { number, text };
      pool.push(line);
      box.append(line);
    }
    pool.forEach((line, i) => {
      line.hidden = i >= count;
      if (line.hidden) return;
      const place = first + i;
      const row = shown[place];
      line.row = row;
      line.id = `row-${row}`;
      line.style.top = `${place * HEIGHT}px`;
      line.className = `row ${rows.kind[row]}${rows.isFailed[row] ? " failed" : ""}${row === chosen ? " chosen" : ""}`;
      line.setAttribute("aria-selected", row === chosen);
      line.setAttribute("aria-posinset", place + 1);
      line.setAttribute("aria-setsize", shown.length);
      line.parts.number.textContent = rows.n[row];
      line.parts.text.textContent = (rows.kind[row] === "d" ? "\u2192 " : "") + rows.text[row];
      line.title = rows.text[row];
    });
    box.setAttribute("aria-activedescendant", chosen >= 0 ? `row-${chosen}` : "");
  };

  // The place of a row among those shown, or of the first after it.
  const placeOf = (row) => {
    let low = 0;
    let high = shown.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (shown[middle] < row) low = middle + 1;
      else high = middle;
    }
    return low;
  };

  const reveal = (row) => {
    const top = placeOf(row) * HEIGHT;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (top + HEIGHT > box.scrollTop + box.clientHeight) box.scrollTop = top + HEIGHT - box.clientHeight;
  };

  const matching = (query, node, onlyFailed, others) => {
    const words = query.toLowerCase().split(/\s+/).filter(Boolean);
    if (words.length) lowered ??= rows.text.map((text) => text.toLowerCase());
    const found = [];
    for (let row = 0; row < rows.size; row++) {
      if (onlyFailed && !rows.isFailed[row]) continue;
      if (!others && rows.kind[row] === "o") continue;
      if (node !== null && !nodesOf(rows, row).includes(node)) continue;
      if (words.every((word) => lowered[row].includes(word))) found.push(row);
    }
    return Int32Array.from(found);
  };

  const move = (steps) => {
    if (!shown.length) return;
    const place = placeOf(chosen);
    const here = shown[place] === chosen;
    const target = chosen < 0 ? 0 : place + (steps > 0 && !here ? steps - 1 : steps);
    choose(shown[Math.max(0, Math.min(shown.length - 1, target))]);
  };

  box.addEventListener("scroll", draw, { passive: true });
  box.addEventListener("click", (event) => {
    const line = event.target.closest(".row");
    if (line) choose(line.row);
  });
  box.addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.floor(box.clientHeight / HEIGHT) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[event.key];
    if (steps === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    move(steps);
  });
  new ResizeObserver(draw).observe(box);

  return {
    // #42 is call 42; words must all be there.
    filter(query, node, onlyFailed, others) {
      const number = /^#(\d+)$/.exec(query.trim());
      shown = number ? matching("", null, false, true) : matching(query, node, onlyFailed, others);
      if (number && rows.n.includes(Number(number[1]))) choose(rows.n.indexOf(Number(number[1])));
      spacer.style.height = `${shown.length * HEIGHT}px`;
      if (chosen >= 0) reveal(chosen);
      draw();
      return shown.length;
    },
    select(row) {
      chosen = row;
      reveal(row);
      draw();
    },
    move,
  };
};
