// SPDX-License-Identifier: GPL-2.0-only
// What there is at a moment, and what holds what. An object keeps its place while it is there.

// KVM's side above, VFIO's and the IOMMU's below.
const BANDS = [["vm", "kvm-vfio", "group", "device"], ["container", "domain", "iommu"]];
const KINDS = ["vm", "kvm-vfio", "group", "device", "container", "domain", "iommu"];
const WIDE = 215;
const HIGH = 62;
const BETWEEN = 40;
const MOST_SHOWN = 300;
const TIES = { has: "", holds: "holds", leaked: "leaked", in: "in", maps: "maps" };

const makeGraph = (data, chooseNode) => {
  const { nodes } = data;
  const cy = cytoscape({
    container: $("graph"),
    layout: { name: "preset" },
    autoungrabify: true,
    boxSelectionEnabled: false,
    minZoom: 0.1,
    maxZoom: 2,
  });
  let chosen = null;

  const style = () => [
    { selector: "node", style: {
      shape: "round-rectangle", width: 160, height: 42, "background-color": colour("panel"),
      "border-width": 1, "border-color": colour("dim"), label: "data(label)", color: colour("text"),
      "font-size": 12, "text-valign": "center", "text-halign": "center", "text-wrap": "wrap", "text-max-width": 152 } },
    { selector: "node.closed", style: { "border-style": "dashed", color: colour("dim") } },
    { selector: "node.warm", style: { "border-color": colour("warm"), "border-width": 3 } },
    { selector: "node.bad", style: { "border-color": colour("bad"), "border-width": 3, "border-style": "double" } },
    { selector: "node.about", style: { "background-color": colour("chosen") } },
    { selector: "node.chosen", style: { "background-color": colour("chosen"), "border-color": colour("accent"), "border-width": 3 } },
    { selector: "edge", style: {
      width: 1.5, "line-color": colour("dim"), "target-arrow-color": colour("dim"), "target-arrow-shape": "triangle",
      "arrow-scale": 0.8, "curve-style": "straight", label: "data(label)", "font-size": 10, color: colour("dim"),
      "text-background-color": colour("page"), "text-background-opacity": 1, "text-background-padding": 2 } },
    { selector: "edge.holds", style: { width: 2.5, "line-color": colour("accent"), "target-arrow-color": colour("accent") } },
    { selector: "edge.leaked", style: { width: 2.5, "line-style": "dashed", "line-color": colour("bad"), "target-arrow-color": colour("bad") } },
  ];

  // How many places a band has had to have: it only grows, so that nothing jumps.
  const tallest = [1, 1];
  const placeOf = Object.fromEntries(BANDS.flatMap((band, y) => band.map((kind, x) => [kind, { x, y }])));
  const position = (node) => {
    const { x, y } = placeOf[node.kind];
    return { x: (x + y / 2) * WIDE, y: (y ? tallest[0] * HIGH + BETWEEN : 0) + node.slot * HIGH };
  };

  const grow = (there) => {
    for (const { kind, slot } of there) {
      const { y } = placeOf[kind];
      tallest[y] = Math.max(tallest[y], slot + 1);
    }
  };

  const fit = () => {
    const width = 4 * WIDE;
    const height = (tallest[0] + tallest[1]) * HIGH + BETWEEN;
    const readable = 0.55; // smaller letters are none: then one pans
    const zoom = Math.max(readable, Math.min(cy.width() / width, cy.height() / height, 1.2));
    const left = Math.max(0, (cy.width() - width * zoom) / 2);
    const top = Math.max(0, (cy.height() - height * zoom) / 2);
    cy.viewport({ zoom, pan: { x: left + (WIDE / 2) * zoom, y: top + (HIGH / 2) * zoom } });
  };

  cy.on("tap", "node", (event) => chooseNode(Number(event.target.id().slice(1))));
  cy.on("tap", (event) => event.target === cy && chooseNode(null));
  new ResizeObserver(() => {
    cy.resize();
    fit();
  }).observe($("graph"));
  cy.style(style());

  return {
    // The objects of the call at hand, `about`, stand out.
    show(state, about) {
      const before = tallest.join();
      grow(state.nodes.slice(0, MOST_SHOWN).map((entry) => entry.node));
      const wanted = new Map();
      for (const { node, note, level, closed } of state.nodes.slice(0, MOST_SHOWN)) {
        const classes = [level, closed ? "closed" : "", about.has(node.index) ? "about" : "", node.index === chosen ? "chosen" : ""].filter(Boolean).join(" ");
        const label = note ? `${node.name}\n${note}` : node.name;
        wanted.set(`n${node.index}`, { group: "nodes", data: { id: `n${node.index}`, label }, position: position(node), classes });
      }
      for (const { what, x, y } of state.ties) {
        if (!wanted.has(`n${x}`) || !wanted.has(`n${y}`)) continue;
        const id = `${what} ${x} ${y}`;
        wanted.set(id, { group: "edges", data: { id, source: `n${x}`, target: `n${y}`, label: TIES[what] }, classes: what });
      }
      cy.batch(() => {
        cy.elements().filter((each) => !wanted.has(each.id())).remove();
        const added = [];
        for (const [id, made] of wanted) {
          const known = cy.getElementById(id);
          if (known.empty()) added.push(made);
          else {
            if (known.data("label") !== made.data.label) known.data("label", made.data.label);
            known.classes(made.classes);
            if (made.position) known.position(made.position);
          }
        }
        cy.add(added);
      });
      if (before !== tallest.join()) fit();
    },
    choose(node) {
      chosen = node;
      cy.nodes().removeClass("chosen");
      if (node !== null) cy.getElementById(`n${node}`).addClass("chosen");
    },
    recolour: () => cy.style(style()),
    cy,
  };
};
