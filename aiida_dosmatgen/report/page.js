"use strict";
// The interactive parts of the page. Text from the data is inserted as text (textContent), never as HTML.
(() => {
  const { targets, crystals, nodes, made } = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const table = $("table");
  const ready = () => { document.documentElement.dataset.ready = String(Math.round(performance.now())); };
  if (!table) { // no crystal passed the screening
    ready();
    return;
  }
  const rows = [...table.tBodies[0].rows];
  const rowOf = new Map(rows.map((row) => [Number(row.dataset.place), row]));
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let current = null;

  const element = (name, className, text) => {
    const one = document.createElement(name);
    if (className) one.className = className;
    if (text !== undefined) one.textContent = text;
    return one;
  };
  const chemical = (formula) => formula.replace(/[0-9]/g, (digit) => "₀₁₂₃₄₅₆₇₈₉"[digit]);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  // --- curves ---------------------------------------------------------------------------------------------------------------

  const unpack = ([text, step]) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    return Float64Array.from({ length: bytes.length / 2 }, (_, i) => view.getUint16(2 * i, true) * step);
  };
  const energiesOf = (target) =>
    Float64Array.from({ length: target.n }, (_, i) => target.emin + ((target.emax - target.emin) * i) / (target.n - 1));
  const curvesOf = (crystal, site) => {
    const target = targets[crystal.target];
    const energies = energiesOf(target);
    const cut = (packed, [low, high]) => Array.from(unpack(packed), (value, i) => (energies[i] >= low && energies[i] <= high ? value : null));
    const pick = (curves) => (site === "total" ? curves.total : curves.sites[Number(site)]);
    const { predicted, dft } = crystal.curves;
    const found = { energies: Array.from(energies), target: cut(pick(target), target.known) };
    const spoken = (energy) => target.spoken.some(([low, high]) => low - 1e-9 <= energy && energy <= high + 1e-9);
    if (target.spoken) found.target = found.target.map((value, i) => (spoken(energies[i]) ? value : null));
    if (predicted && pick(predicted)) found.predicted = cut(pick(predicted), predicted.known);
    if (dft && pick(dft)) found.dft = cut(pick(dft), dft.known);
    return found;
  };

  let printing = false; // paper has another width than the window, and nothing says which: A4 and Letter hold 640 pixels
  const plot = () => {
    const crystal = crystals[current];
    const target = targets[crystal.target];
    const curves = curvesOf(crystal, $("site").value || "total");
    const limit = Math.min(target.known[1], crystal.curves.limit);
    const narrow = !printing && $("plot").clientWidth < 500;
    const line = (y, name, style, more) => ({
      x: curves.energies, y, name, mode: "lines", line: style, hovertemplate: "%{y:.4f}", connectgaps: false, ...more,
    });
    const traces = [
      line(curves.target, target.spoken ? "made of wishes" : "target", { color: colour("target"), width: 1.5 }, { fill: "tozeroy", fillcolor: colour("target-fill") }),
    ];
    if (curves.predicted) traces.push(line(curves.predicted, "predicted", { color: colour("predicted"), width: 1.8, dash: "6px,4px" }));
    if (curves.dft) traces.push(line(curves.dft, "DFT", { color: colour("dft"), width: 2.2 }));
    const axis = {
      gridcolor: colour("line"), linecolor: colour("strong"), zeroline: false, ticks: "outside", tickcolor: colour("strong"),
      automargin: true, fixedrange: false,
    };
    const shapes = [{ type: "line", x0: 0, x1: 0, yref: "paper", y0: 0, y1: 1, line: { color: colour("soft"), width: 1, dash: "dot" } }];
    for (const [low, high] of target.windows) {
      shapes.push({ type: "rect", x0: low, x1: high, yref: "paper", y0: 0, y1: 0.015, line: { width: 0 }, fillcolor: colour("accent"), opacity: 0.5 });
    }
    const shown = [target.emin, Math.min(target.emax, limit + 0.02 * (target.emax - target.emin))];
    const top = 1.08 * Math.max(...["target", "predicted", "dft"].flatMap((name) => (curves[name] || [])
      .filter((value, i) => value !== null && curves.energies[i] <= shown[1])));
    const layout = {
      autosize: true, width: printing ? 640 : undefined,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 52, r: 8, t: 26, b: 46 },
      font: { family: getComputedStyle(document.body).fontFamily, size: narrow ? 11 : 12.5, color: colour("text") },
      xaxis: { ...axis, range: shown, title: { text: narrow ? "energy (eV)" : "energy relative to the highest occupied level (eV)", standoff: 8 } },
      yaxis: { ...axis, range: [0, top], title: { text: "states/eV/atom", standoff: 8 } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("strong"), activecolor: colour("accent") },
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", bgcolor: "rgba(0,0,0,0)" },
      hovermode: "x unified", hoverlabel: { bgcolor: colour("card"), bordercolor: colour("strong"), font: { color: colour("text") } },
      shapes, dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    };
    const options = {
      responsive: true, displaylogo: false, displayModeBar: narrow ? false : "hover",
      modeBarButtons: [["toImage"], ["zoom2d", "pan2d"], ["zoomIn2d", "zoomOut2d", "resetScale2d"]],
      toImageButtonOptions: { filename: crystal.key, scale: 3 },
    };
    Plotly.react($("plot"), traces, layout, options);
    for (const drawing of $("plot").querySelectorAll("svg.main-svg")) drawing.setAttribute("aria-hidden", "true");
    const names = Object.keys(curves).filter((name) => name !== "energies").map((name) => (name === "dft" ? "DFT" : name));
    const distance = crystal.mae === null ? "" : ` The DFT curve is ${crystal.mae.toFixed(4)} states per eV and atom from the target.`;
    $("plot").setAttribute("aria-label", `Density of states of ${crystal.formula}: ${names.join(", ")}.${distance} “Download curves” gives the numbers.`);
  };

  // --- structure --------------------------------------------------------------------------------------------------------------

  let viewer = null;
  let cells = 2;
  let seen = false; // WebGL is started when the structure first comes into sight: that takes longer than all the rest
  new IntersectionObserver((entries, observer) => {
    if (current === null || !entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    seen = true;
    view();
  }, { rootMargin: "200px" }).observe($("structure"));
  const view = () => {
    const crystal = crystals[current];
    const box = $("structure");
    box.setAttribute("aria-label", `Structure of ${crystal.formula}`);
    try {
      viewer ??= $3Dmol.createViewer(box, { backgroundAlpha: 0, antialias: true, disableFog: true });
      if (!viewer) throw new Error("no WebGL");
    } catch {
      box.replaceChildren(element("p", "hint", "This browser draws nothing in three dimensions (WebGL is off); the CIF has the structure."));
      return;
    }
    viewer.removeAllModels();
    viewer.removeAllShapes();
    viewer.removeAllLabels();
    const model = viewer.addModel(crystal.cif, "cif", { doAssembly: true, duplicateAssemblyAtoms: true, normalizeAssembly: true });
    viewer.addUnitCell(model, { box: { color: colour("soft"), linewidth: 1.2 }, alabel: "", blabel: "", clabel: "", astyle: { hidden: true }, bstyle: { hidden: true }, cstyle: { hidden: true } });
    if (cells > 1) viewer.replicateUnitCell(cells, cells, cells, model, true);
    viewer.setStyle({}, { sphere: { scale: 0.3, colorscheme: "Jmol" }, stick: { radius: 0.13, colorscheme: "Jmol" } });
    viewer.setView([0, 0, 0, 0, 0, 0, 0, 1]);
    viewer.rotate(-72, "x");
    viewer.rotate(18, "y");
    viewer.zoomTo();
    viewer.zoom(1.1);
    viewer.render();
    $("elements").replaceChildren(...[...new Set(model.selectedAtoms({}).map((atom) => atom.elem))].sort().map((symbol) => {
      const entry = element("span");
      const dot = element("i");
      dot.style.background = `#${($3Dmol.elementColors.Jmol[symbol] ?? 0xffffff).toString(16).padStart(6, "0")}`;
      entry.append(dot, symbol);
      return entry;
    }));
  };
  const turn = { ArrowLeft: ["y", -15], ArrowRight: ["y", 15], ArrowUp: ["x", -15], ArrowDown: ["x", 15] };
  $("structure").addEventListener("keydown", (event) => {
    if (!viewer) return;
    if (event.key in turn) viewer.rotate(turn[event.key][1], turn[event.key][0]);
    else if (event.key === "+" || event.key === "=") viewer.zoom(1.2);
    else if (event.key === "-") viewer.zoom(1 / 1.2);
    else return;
    event.preventDefault();
    viewer.render();
  });
  for (const [id, count] of [["one", 1], ["eight", 2]]) {
    $(id).addEventListener("click", () => {
      cells = count;
      $("one").setAttribute("aria-pressed", String(count === 1));
      $("eight").setAttribute("aria-pressed", String(count === 2));
      view();
    });
  }

  // --- facts and lineage --------------------------------------------------------------------------------------------------------

  const facts = (crystal) => crystal.facts.map(([name, value, unit]) => {
    const entry = element("div", value.length > 28 ? "long" : "");
    const given = element("dd", "", value);
    if (unit) given.append(" ", element("small", "", unit));
    entry.append(element("dt", "", name.trim()), given);
    return entry;
  });

  const drawn = ([name, place, process, repeated, below], depth) => {
    const node = nodes[place];
    const item = element("li");
    const title = element("span", "title");
    title.append(element("i", "mark"), element("b", "", depth ? name.replaceAll("__", " ").replaceAll("_", " ") : "score"));
    const what = repeated ? `${node.what}, shown above` : node.what;
    if (depth && what !== name.replaceAll("_", " ") && !node.detail.includes(what.slice(0, -1))) title.append(element("span", "detail", what));
    if (node.detail && !repeated) title.append(element("span", "detail", node.detail));
    const maker = nodes[process];
    if (!below.length) {
      const leaf = element("div", maker ? "leaf made" : "leaf");
      if (maker) title.append(element("span", "detail", `of the same ${maker.what}`));
      if (!repeated) title.append(element("span", "uuid", node.uuid.slice(0, 8)));
      leaf.append(title);
      item.append(leaf);
      return item;
    }
    const details = element("details");
    const summary = element("summary");
    title.append(element("span", "via", maker.what + (maker.detail ? ` · ${maker.detail}` : "")), element("span", "uuid", node.uuid.slice(0, 8)));
    summary.append(title);
    const list = element("ul");
    // unfolded when first seen, so that a page of many crystals makes few elements
    const fill = () => { if (!list.childElementCount) list.append(...below.map((part) => drawn(part, depth + 1))); };
    details.addEventListener("toggle", () => { if (details.open) fill(); });
    if (depth < 2) { details.open = true; fill(); }
    details.fill = fill;
    details.append(summary, list);
    item.append(details);
    return item;
  };
  const lineage = (crystal) => {
    $("lineage").hidden = !crystal.tree;
    const then = crystal.unrelaxed
      ? `its density of states predicted unrelaxed by ${made.predictor} and computed by DFT; relaxed with ${made.force_field} for its formation energy.`
      : `relaxed with ${made.force_field}, its density of states predicted by ${made.predictor}, then computed by DFT.`;
    $("made").textContent = `Candidate ${crystal.candidate} of seed ${made.seed}: sampled by ${made.checkpoint} for ${crystal.target}, ${then}`;
    const list = element("ul");
    if (crystal.tree) list.append(drawn(crystal.tree, 0));
    $("tree").replaceChildren(list);
  };
  const unfold = (open) => {
    const all = $("tree").getElementsByTagName("details"); // grows while it is walked
    for (let i = 0; i < all.length; i += 1) {
      if (open) all[i].fill();
      all[i].open = open || i === 0;
    }
  };
  $("unfold").addEventListener("click", () => unfold(true));
  $("fold").addEventListener("click", () => unfold(false));

  // --- one crystal --------------------------------------------------------------------------------------------------------------

  const open = (place, focus) => {
    if (!(place in crystals)) return;
    current = place;
    const crystal = crystals[place];
    $("crystal").hidden = false;
    for (const row of rows) row.removeAttribute("aria-current");
    rowOf.get(place).setAttribute("aria-current", "true");
    $("crystal-target").textContent = `for ${crystal.target}, candidate ${crystal.candidate}`;
    const status = element("small", `status ${crystal.status.replaceAll(" ", "-")}`, crystal.status);
    $("crystal-title").replaceChildren(chemical(crystal.formula), status);
    const target = targets[crystal.target];
    const sites = crystal.curves.dft?.sites ?? [];
    const option = (value, text) => { const one = element("option", "", text); one.value = value; return one; };
    $("site").replaceChildren(option("total", "all atoms"), ...sites.map((_, i) => option(String(i), `site ${target.atoms[i]} of the target`)));
    $("site-label").hidden = sites.length < 2;
    $("facts").replaceChildren(...facts(crystal));
    lineage(crystal);
    plot();
    if (seen) view();
    if (focus) {
      $("crystal").scrollIntoView({ block: "start" });
      $("crystal-title").focus({ preventScroll: true });
    }
  };
  const save = (name, type, text) => {
    const link = element("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  $("cif").addEventListener("click", () => save(`${crystals[current].formula}-${crystals[current].key}.cif`, "chemical/x-cif", crystals[current].cif));
  $("csv").addEventListener("click", () => {
    const crystal = crystals[current];
    const curves = curvesOf(crystal, $("site").value || "total");
    const names = Object.keys(curves);
    const lines = curves.energies.map((_, i) => names.map((name) => (curves[name][i] === null ? "" : Number(curves[name][i].toPrecision(7)))).join(","));
    save(`${crystal.formula}-${crystal.key}.csv`, "text/csv", `${names.map((name) => (name === "energies" ? "energy_eV" : `${name}_states_per_eV_and_atom`)).join(",")}\n${lines.join("\n")}\n`);
  });
  $("site").addEventListener("change", plot);
  const step = (by) => {
    const visible = [...table.tBodies[0].rows].filter((row) => !row.hidden);
    const at = visible.findIndex((row) => Number(row.dataset.place) === current);
    const next = visible[(at + by + visible.length) % visible.length];
    if (next) location.hash = `crystal-${next.dataset.place}`;
  };
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));

  // --- the table ----------------------------------------------------------------------------------------------------------------

  const value = (row, column) => {
    const cell = row.cells[column];
    return "v" in cell.dataset ? (cell.dataset.v === "" ? null : Number(cell.dataset.v)) : cell.textContent;
  };
  for (const sortable of document.querySelectorAll(".sortable")) {
    const headings = [...sortable.tHead.rows[0].cells];
    headings.forEach((heading, column) => heading.querySelector("button")?.addEventListener("click", () => {
      const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
      const compare = (a, b) => {
        const [x, y] = [value(a, column), value(b, column)];
        if (x === null || y === null) return (x === null) - (y === null); // what is not known comes last either way
        return sign * (typeof x === "number" ? x - y : x.localeCompare(y, "en", { numeric: true }));
      };
      sortable.tBodies[0].append(...[...sortable.tBodies[0].rows].sort(compare));
    }));
    sortable.tBodies[0].addEventListener("click", (event) => {
      const row = event.target.closest("tr[data-place]");
      if (row && !event.target.closest("a") && !String(getSelection())) location.hash = `crystal-${row.dataset.place}`;
    });
  }

  const filter = () => {
    const all = document.querySelector("[name=shown]:checked")?.value !== "validated";
    const target = $("target")?.value ?? "";
    const search = $("search").value.trim().toLowerCase();
    let count = 0;
    for (const row of rows) {
      const crystal = crystals[row.dataset.place];
      row.hidden = !((all || crystal.validated) && (!target || crystal.target === target) && crystal.formula.toLowerCase().includes(search));
      count += !row.hidden;
    }
    $("shown").textContent = count === rows.length ? "" : `${count} of ${rows.length} shown`;
  };
  for (const input of document.querySelectorAll("[name=shown], #target")) input.addEventListener("change", filter);
  $("search").addEventListener("input", filter);

  // --- the way through the page -----------------------------------------------------------------------------------------------------

  const asked = () => { const found = /^#crystal-(\d+)$/.exec(location.hash); return found ? Number(found[1]) : null; };
  addEventListener("hashchange", () => { if (asked() !== null) open(asked(), true); });
  dark.addEventListener("change", () => { if (current !== null) { plot(); if (seen) view(); } });

  let folded = [];
  addEventListener("beforeprint", () => { // paper has nothing to unfold, and is light
    folded = [];
    const all = document.getElementsByTagName("details"); // grows while it is walked
    for (let i = 0; i < all.length; i += 1) {
      if (all[i].open) continue;
      folded.push(all[i]);
      all[i].fill?.();
      all[i].open = true;
    }
    printing = true;
    document.documentElement.classList.add("paper"); // the curves take their colours before those of print hold
    if (current === null) return;
    plot();
    view();
  });
  addEventListener("afterprint", () => {
    for (const details of folded) details.open = false;
    printing = false;
    document.documentElement.classList.remove("paper");
    if (current !== null) plot();
  });

  filter();
  const scored = crystals.map((crystal, i) => [crystal.distance ?? Infinity, i]).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  open(asked() ?? scored[0][1], asked() !== null);
  ready();
})();
