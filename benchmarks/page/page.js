"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const narrow = () => window.innerWidth < 640;
  const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // One look for all charts, taken from the page's own colours so that light, dark and print agree.
  function dressed(layout) {
    const axis = { gridcolor: ink("--line"), zerolinecolor: ink("--line"), linecolor: ink("--line"), fixedrange: true };
    const labels = narrow() ? { tickfont: { size: 9 } } : {};
    return {
      ...layout, dragmode: false, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: narrow() ? 11 : 13, color: ink("--ink") },
      margin: { l: narrow() ? 46 : 62, r: 12, t: 24, b: 50 },
      hoverlabel: { align: "left", bgcolor: ink("--card"), bordercolor: ink("--line"), font: { color: ink("--ink") } },
      xaxis: { ...axis, ...layout.xaxis }, yaxis: { ...axis, ...labels, ...layout.yaxis },
      ...Object.fromEntries(["yaxis2", "yaxis3"].filter((name) => layout[name])
        .map((name) => [name, { ...axis, ...labels, ...layout[name] }])),
    };
  }
  function draw(id, figure) {
    const place = document.getElementById(id);
    if (place) Plotly.react(place, figure.data, dressed(figure.layout), { displayModeBar: false, responsive: true });
  }

  // Those that nothing visible beats in both speed and accuracy; as benchmarks/page/candidates.py has it.
  function front(traces) {
    let best = -1;
    return traces.slice().sort((a, b) => a.x[0] - b.x[0] || b.y[0] - a.y[0])
      .filter((trace) => trace.y[0] > best && ((best = trace.y[0]), true));
  }

  // Those of the front whose names do not run into one that is written already; the others tell theirs when pointed at.
  function named(best, width) {
    const apart = width * (narrow() ? 0.6 : 0.28);
    return best.reduce((told, trace) => (told.every((other) => trace.x[0] - other.x[0] > apart
      || Math.abs(trace.y[0] - other.y[0]) > 1.5) ? [...told, trace] : told), []);
  }

  const chips = [...document.querySelectorAll(".chip")];
  function allowed(facets) {
    return chips.every((chip) => chip.getAttribute("aria-pressed") === "true"
      || facets[chip.dataset.field] !== chip.dataset.value);
  }
  function filter() {
    const rows = [...document.querySelectorAll("#rows tbody tr")];
    for (const row of rows) row.hidden = !allowed(row.dataset);
    const shown = rows.filter((row) => !row.hidden).length;
    document.getElementById("shown").textContent = `${shown} of ${rows.length} artifacts shown`;
    figures.tradeoffs.forEach(({ data: [line, ...points], layout }, machine) => {
      const visible = points.filter((trace) => allowed(trace.meta));
      const best = front(visible);
      const edge = { ...line, x: best.map((trace) => trace.x[0]), y: best.map((trace) => trace.y[0]) };
      const told = named(best, layout.xaxis.range[1]);
      const traces = visible.map((trace) => (told.includes(trace) ? { ...trace, mode: "markers+text" } : trace));
      draw(`tradeoff-${machine}`, { data: [edge, ...traces], layout });
    });
  }
  for (const chip of chips) {
    chip.addEventListener("click", () => {
      chip.setAttribute("aria-pressed", String(chip.getAttribute("aria-pressed") !== "true"));
      filter();
    });
  }

  const chooser = document.getElementById("profile");
  function profile() {
    if (!chooser) return;
    for (const text of document.querySelectorAll(".profile")) text.hidden = text.dataset.profile !== chooser.value;
    draw("roofline", figures.profiles[chooser.value].roofline);
    draw("layers", figures.profiles[chooser.value].layers);
  }
  chooser?.addEventListener("change", profile);

  function everything() {
    filter();
    for (const [name, figure] of Object.entries(figures.charts)) draw(name, figure);
    profile();
  }
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", everything);
  window.matchMedia("(max-width: 640px)").addEventListener("change", everything);
  window.addEventListener("beforeprint", everything);
  everything();
  document.body.dataset.ready = "true";
})();
