// SPDX-License-Identifier: GPL-2.0-only
// One row is chosen, and perhaps one object: everything shown follows from these.

const dark = matchMedia("(prefers-color-scheme: dark)");
const setTheme = (theme) => { document.documentElement.dataset.theme = theme; };
setTheme(dark.matches ? "dark" : "light");

const start = async () => {
  const data = unpacked(await inflate($("data").textContent.trim()));
  const { rows } = data;
  const detailsOf = details(data);
  let row = -1;
  let node = null;
  let frame = 0;

  const facts = Object.fromEntries(data.facts);
  $("program").textContent = facts.program || "A trace";
  $("facts").replaceChildren(...data.facts.filter(([name]) => name !== "program").map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value))));

  const choose = (wanted) => {
    row = wanted;
    list.select(row);
    timeline.select(row);
    $("when").textContent = `${rows.kind[row] === "d" ? "Decision of call" : "After call"} ${rows.n[row]}, ${milliseconds(rows.at[row])}`;
    frame ||= requestAnimationFrame(show);
  };
  const show = () => {
    frame = 0;
    if (row < 0) return;
    const state = stateAt(data, row);
    graph.show(state, new Set(nodesOf(rows, row)));
    showState(state, node, chooseNode);
    const asked = row;
    detailsOf(row).then((record) => asked === row && showDetails(data, row, record, node, chooseNode));
  };
  const chooseNode = (wanted) => {
    node = wanted === node ? null : wanted;
    graph.choose(node);
    $("about").hidden = node === null;
    $("about").textContent = node === null ? "" : `about ${data.nodes[node].name} \u00d7`;
    filter();
    show();
  };
  const filter = () => {
    const count = list.filter($("search").value, node, $("only-failed").checked, $("others").checked);
    $("found").textContent = `${count.toLocaleString("en")} of ${rows.size.toLocaleString("en")}`;
  };

  const list = makeList(data, choose);
  const timeline = makeTimeline(data, choose);
  const graph = makeGraph(data, chooseNode);

  const problems = data.problems.map(([at, kind, text, times, fix]) =>
    element("li", { class: kind.replace(" ", "-") }, element("button", { type: "button", onclick: () => at >= 0 && choose(at) },
      element("span", { class: "tag" }, kind), text, times > 1 ? ` (${times.toLocaleString("en")} times)` : "",
      ...(fix ? [element("span", { class: "fix" }, fix)] : []))));
  $("problems").querySelector("ol").replaceChildren(...(problems.length ? problems : [element("li", { class: "none" }, "None was found.")]));
  $("problems-title").textContent = problems.length ? `Problems (${problems.length})` : "Problems";

  const flip = () => {
    setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    timeline.recolour();
    graph.recolour();
  };
  dark.addEventListener("change", () => { setTheme(dark.matches ? "light" : "dark"); flip(); });
  $("theme").addEventListener("click", flip);
  $("keys").addEventListener("click", () => $("help").showModal());
  $("about").addEventListener("click", () => chooseNode(null));
  $("search").addEventListener("input", filter);
  $("search").addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === "ArrowDown") {
      event.preventDefault();
      $("list").focus();
      list.move(1);
    }
  });
  for (const id of ["only-failed", "others"]) $(id).addEventListener("change", filter);
  $("by-order").addEventListener("change", (event) => timeline.evenly(event.target.checked));

  const nextOf = (places, steps) => {
    const sorted = [...new Set(places)].sort((a, b) => a - b);
    const next = steps > 0 ? sorted.find((place) => place > row) : sorted.findLast((place) => place < row);
    if (next !== undefined) choose(next);
  };
  const keys = {
    "/": () => { $("search").focus(); $("search").select(); },
    n: () => nextOf(data.problems.map(([at]) => at).filter((at) => at >= 0), 1),
    p: () => nextOf(data.problems.map(([at]) => at).filter((at) => at >= 0), -1),
    f: () => nextOf(rows.failed, 1),
    t: flip,
    "?": () => $("help").showModal(),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
    if (event.key === "Escape") {
      $("search").value = "";
      $("only-failed").checked = false;
      if (node !== null) chooseNode(null);
      else filter();
      if (document.activeElement === $("search")) $("list").focus();
    } else if (keys[event.key] && document.activeElement !== $("search")) {
      event.preventDefault();
      keys[event.key]();
    }
  });

  filter();
  const asked = /^#call-(\d+)$/.exec(location.hash);
  const first = asked ? rows.n.indexOf(Number(asked[1])) : data.problems.some(([at]) => at >= 0) ? data.problems.find(([at]) => at >= 0)[0] : Math.max(0, rows.kind.search(/[^o]/));
  if (rows.size) choose(Math.max(0, first));
  window.report = { data, choose, chooseNode, graph, get row() { return row; }, get node() { return node; } };
  requestAnimationFrame(() => setTimeout(() => {
    window.report.ready = performance.now();
    document.documentElement.dataset.ready = "yes";
  }));
};

const fail = (error) => {
  $("failure").hidden = false;
  $("failure").textContent = `This page does not work in this browser: ${error.message}. Use Firefox 113, Chrome 103, Safari 16.4 or later.`;
  throw error;
};
if (typeof DecompressionStream === "undefined") fail(new Error("it cannot unpack data"));
else start().catch(fail);
