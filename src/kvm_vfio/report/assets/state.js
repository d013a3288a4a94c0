// SPDX-License-Identifier: GPL-2.0-only
// The state at a moment in words: the graph for those who cannot see it, and the why of it.

// Whose files are in the trace; the VMs of the computer's own KVM have theirs elsewhere.
const opens = (data, kind) =>
  ["kvm-vfio", "container", "group", "device"].includes(kind) || (kind === "vm" && Object.fromEntries(data.facts).KVM !== "host");

// Every node that is there, with what is so of it: first what is bad, then what costs.
const stateAt = (data, row) => {
  const about = new Map();
  const ties = [];
  const spans = spansAt(data, row);
  for (const { what, x } of spans) if (what === "there") about.set(x, { node: data.nodes[x], closed: true, level: "", note: "", says: [] });
  for (const span of spans) {
    const entry = about.get(span.x);
    if (span.y >= 0) {
      ties.push(span);
      const other = data.nodes[span.y].name;
      if (span.what === "holds") entry?.says.push(`holds ${other}`);
      else if (span.what === "in") entry?.says.push(`is in ${other}`);
      else if (span.what === "maps") entry?.says.push(`maps ${other}`);
      else if (span.what === "leaked") {
        about.set(span.x, Object.assign(entry ?? { node: data.nodes[span.x], closed: true, says: [] }, { level: "bad", note: "leaked a reference" }));
        about.get(span.x).says.unshift(`can never let go of ${other}`);
      }
    } else if (entry) {
      if (span.what === "open") entry.closed = false;
      else if (span.what === "executed") Object.assign(entry, { level: "warm", note: "WBINVD executed" }), entry.says.unshift(`WBINVD is executed: ${span.text}`);
      else if (span.what === "stale") Object.assign(entry, { level: "bad", note: "stale" }), entry.says.unshift(span.text);
      else if (span.what === "noncoherent") Object.assign(entry, { level: entry.level || "warm", note: "noncoherent" }), entry.says.unshift("does not enforce coherency");
    }
  }
  for (const entry of about.values()) {
    if (!opens(data, entry.node.kind)) entry.closed = false;
    else if (entry.closed) entry.says.push("open nowhere");
    if (entry.node.kind === "vm" && entry.level === "") entry.says.unshift("WBINVD is a no-op");
  }
  const rank = { bad: 0, warm: 1, "": 2 };
  const nodes = [...about.values()].sort((a, b) => rank[a.level] - rank[b.level] || KINDS.indexOf(a.node.kind) - KINDS.indexOf(b.node.kind) || a.node.index - b.node.index);
  return { nodes, ties };
};

const objectButton = (node, chosen, chooseNode) =>
  element("button", { type: "button", class: `object${node.index === chosen ? " chosen" : ""}`, onclick: () => chooseNode(node.index) }, node.name);

const showState = (state, chosen, chooseNode) => {
  const lines = state.nodes.slice(0, MOST_SHOWN).map(({ node, level, closed, says }) =>
    element("li", {}, objectButton(node, chosen, chooseNode), element("span", { class: level || (closed ? "dim" : "") }, says.join("; "))));
  if (state.nodes.length > MOST_SHOWN) lines.push(element("li", { class: "dim" }, `and ${state.nodes.length - MOST_SHOWN} more`));
  if (!lines.length) lines.push(element("li", { class: "dim" }, "nothing yet"));
  $("state").replaceChildren(...lines);
};

// A large number is an address or a mask.
const plain = (value) => {
  if (typeof value === "number" && value >= 4096) return `0x${value.toString(16)} (${value})`;
  return typeof value === "object" && value !== null ? JSON.stringify(value) : String(value);
};

const showDetails = (data, row, record, chosen, chooseNode) => {
  const { rows } = data;
  const list = element("dl");
  const add = (name, value, kind = "") => value !== undefined && value !== "" && value !== null &&
    list.append(element("dt", {}, name), element("dd", { class: kind }, value));
  add("why", record.why, "why");
  add("injected", record.fault, "why");
  if (rows.kind[row] === "c") add("took", `${(rows.took[row] / 1000).toFixed(1)} \u00b5s`);
  add("at", milliseconds(rows.at[row]));
  add("by", data.tasks[rows.task[row]]);
  for (const [side, name] of [["args", ""], ["out", "back: "]])
    if (record[side] && typeof record[side] === "object")
      for (const [field, value] of Object.entries(record[side])) add(name + field, plain(value));
  add("because", record.because);
  for (const reason of record.reasons ?? []) add(reason.member, [reason.because, reason.container, reason.domain, reason.iommu].filter(Boolean).join(", "));
  const objects = nodesOf(rows, row).map((index) => objectButton(data.nodes[index], chosen, chooseNode));
  if (objects.length) list.append(element("dt", {}, "objects"), element("dd", {}, ...objects));
  $("details").replaceChildren(element("h3", {}, rows.text[row]), list);
};
