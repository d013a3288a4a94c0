// SPDX-License-Identifier: GPL-2.0-only
// How long each call took, over time: drag to scrub. Where WBINVD is executed is shaded.

const makeTimeline = (data, choose) => {
  const { rows, spans } = data;
  const box = $("timeline");
  const calls = [];
  for (let row = 0; row < rows.size; row++) if ("co".includes(rows.kind[row])) calls.push(row);
  let byOrder = false;
  let chosen = 0;
  let plot = null;
  let line = null;

  const xOf = (row) => (byOrder ? row : rows.at[row] / 1e6);
  const columns = () => {
    const xs = Float64Array.from(calls, xOf);
    const took = Float64Array.from(calls, (row) => Math.max(rows.took[row] / 1000, 1));
    const failed = calls.map((row, i) => (rows.isFailed[row] ? took[i] : null));
    return [xs, took, failed];
  };

  // One rectangle for all spans that fall on neighbouring pixels.
  const shade = (plot) => {
    const { ctx, bbox } = plot;
    const wanted = spans.whats.indexOf("executed");
    const end = bbox.left + bbox.width;
    ctx.save();
    ctx.fillStyle = colour("shade");
    let from = 0;
    let to = -1;
    const flush = () => to > from && ctx.fillRect(from, bbox.top, to - from, bbox.height);
    for (let i = 0; i < spans.size; i++) {
      if (spans.what[i] !== wanted) continue;
      const last = spans.end[i] < 0 ? rows.size - 1 : spans.end[i];
      const left = Math.max(bbox.left, plot.valToPos(xOf(spans.begin[i]), "x", true));
      const right = Math.min(end, Math.max(plot.valToPos(xOf(last), "x", true), left + 1));
      if (right <= left) continue;
      if (to >= from && left <= to + 1 && left >= from) to = Math.max(to, right);
      else {
        flush();
        from = left;
        to = right;
      }
    }
    flush();
    ctx.restore();
  };

  const options = () => ({
    width: Math.max(200, box.clientWidth),
    height: box.clientHeight,
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
    scales: { x: { time: false }, y: { distr: 3 } },
    axes: [
      { stroke: colour("dim"), grid: { stroke: colour("line"), width: 1 }, size: 28,
        values: (_, ticks) => ticks.map((tick) => (byOrder ? `${tick}` : tick >= 1000 ? `${tick / 1000} s` : `${tick} ms`)) },
      { stroke: colour("dim"), grid: { show: false }, ticks: { show: false }, size: 56,
        values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : tick >= 1000 ? `${tick / 1000} ms` : `${tick} \u00b5s`)) },
    ],
    series: [
      {},
      { stroke: colour("curve"), width: 1, points: { show: calls.length < 400, size: 4 } },
      { stroke: colour("bad"), width: 0, paths: () => null, points: { show: true, size: 6, fill: colour("bad") } },
    ],
    hooks: { drawClear: [shade], setScale: [() => mark()], ready: [() => mark()] },
  });

  const mark = () => {
    if (!plot || !line) return;
    const at = plot.valToPos(xOf(chosen), "x");
    line.style.left = `${at}px`;
    line.hidden = !(at >= 0 && at <= plot.over.clientWidth);
  };

  const build = () => {
    plot?.destroy();
    if (!calls.length) return;
    plot = new uPlot(options(), columns(), box);
    line = element("div", { class: "now" });
    plot.over.append(line);
    plot.over.addEventListener("pointerdown", (event) => {
      plot.over.setPointerCapture(event.pointerId);
      scrub(event);
    });
    plot.over.addEventListener("pointermove", (event) => event.buttons & 1 && scrub(event));
    plot.over.addEventListener("dblclick", () => zoom(0));
    plot.over.addEventListener("wheel", (event) => {
      event.preventDefault();
      zoom(event.deltaY < 0 ? 0.8 : 1.25, plot.posToVal(event.offsetX, "x"));
    }, { passive: false });
    mark();
  };

  const scrub = (event) => {
    const left = event.clientX - plot.over.getBoundingClientRect().left;
    choose(calls[plot.posToIdx(left)]);
  };

  // By a factor around a place; 0 shows all.
  const zoom = (factor, around = xOf(chosen)) => {
    const first = xOf(calls[0]);
    const last = xOf(calls[calls.length - 1]);
    const { min, max } = plot.scales.x;
    const from = factor ? Math.max(first, around - (around - min) * factor) : first;
    const to = factor ? Math.min(last, around + (max - around) * factor) : last;
    plot.setScale("x", { min: from, max: Math.max(to, from + 1e-6) });
  };

  const step = (steps) => {
    let low = 0;
    let high = calls.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (calls[middle] < chosen) low = middle + 1;
      else high = middle;
    }
    const here = calls[low] === chosen;
    const target = here ? low + steps : low + (steps > 0 ? steps - 1 : steps);
    choose(calls[Math.max(0, Math.min(calls.length - 1, target))]);
  };

  box.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !calls.length) return;
    const far = event.shiftKey ? 100 : 1;
    const steps = { ArrowRight: far, ArrowLeft: -far, PageDown: 1000, PageUp: -1000, Home: -Infinity, End: Infinity }[event.key];
    const factor = { "+": 0.5, "-": 2, 0: 0 }[event.key];
    if (steps !== undefined) step(steps);
    else if (factor !== undefined) zoom(factor);
    else return;
    event.preventDefault();
  });
  new ResizeObserver(() => plot?.setSize({ width: Math.max(200, box.clientWidth), height: box.clientHeight })).observe(box);
  box.setAttribute("aria-valuemax", rows.size ? rows.n[rows.size - 1] : 1);
  build();

  return {
    select(row) {
      chosen = row;
      if (!plot) return;
      const x = xOf(row);
      const { min, max } = plot.scales.x;
      if (x < min || x > max) plot.setScale("x", { min: x - (max - min) / 2, max: x + (max - min) / 2 });
      mark();
      box.setAttribute("aria-valuenow", rows.n[row]);
      box.setAttribute("aria-valuetext", `call ${rows.n[row]}, ${milliseconds(rows.at[row])}: ${rows.text[row]}`);
    },
    evenly(order) {
      byOrder = order;
      build();
    },
    recolour: build,
  };
};
