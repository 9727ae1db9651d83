"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const options = { responsive: true, displaylogo: false, displayModeBar: false };

  // Figures name the style sheet's variables, so that they follow light and dark.
  const themed = (value, style) => {
    if (typeof value === "string") {
      const found = /^var\((--[\w-]+)\)$/.exec(value);
      return found ? style.getPropertyValue(found[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map(item => themed(item, style));
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, themed(item, style)]));
    return value;
  };

  const draw = plot => {
    const figure = themed(data.figures[plot.dataset.figure], getComputedStyle(document.documentElement));
    Plotly.react(plot, figure.data, figure.layout, options);
    if (plot.dataset.drawn) return;
    plot.dataset.drawn = "yes";
    plot.on("plotly_click", event => {
      const label = event.points[0].customdata;
      if (typeof label === "string") choose(plot.closest(".panel"), label);
    });
  };
  const seen = new IntersectionObserver(entries => {
    for (const entry of entries)
      if (entry.isIntersecting && !entry.target.dataset.drawn) draw(entry.target);
  }, { rootMargin: "400px" });
  all(".plot").forEach(plot => seen.observe(plot));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => all(".plot[data-drawn]").forEach(draw));

  const element = (name, className, text, title) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    if (title) made.title = title;
    return made;
  };
  const block = (name, share, colour, title, text = "") => {
    const made = element(name, "", text, title);
    made.style.width = `${100 * share}%`;
    made.style.background = `var(--${colour})`;
    return made;
  };

  const pairs = facts => facts.map(([term, value]) => {
    const pair = element("div");
    pair.append(element("dt", "", term), element("dd", "", value));
    return pair;
  });

  const choose = (panel, label) => {
    const cell = data.cells[panel.id].find(cell => cell.label === label);
    if (!cell) return;
    const select = panel.querySelector("select");
    select.value = label;
    panel.querySelector(".chosen dl").replaceChildren(...pairs(cell.facts));
    for (const said of all(".said", panel)) said.replaceChildren(...pairs(cell[said.dataset.of]));
    const most = Math.max(...cell.parts.map(part => part.share), 1e-9);
    const named = new Map(cell.parts.map(part => [part.name, part]));
    for (const card of all(".card", panel)) {
      const part = named.get(card.dataset.node);
      if (!part || card.classList.contains("quiet")) continue;
      card.querySelector(".joules").textContent = part.joules;
      card.querySelector(".share").textContent = part.percent;
      card.querySelector(".fill").setAttribute("width", Math.max(0, part.share) * card.querySelector(".level").width.baseVal.value);
      card.querySelector(".base").classList.toggle("hot", part.share > 0 && part.share === most);
    }
    const strip = panel.querySelector(".strip");
    if (strip) strip.replaceChildren(...cell.parts.map(part => {
      const made = block("span", part.share, part.colour, `${part.name}: ${part.joules}, ${part.percent}`,
        part.share > 0.09 ? `${part.name} ${part.percent}` : "");
      if (part.colour === "idle") made.className = "idle";
      return made;
    }));
    for (const rows of all(".rows", panel)) rows.replaceChildren(...cell[rows.dataset.of].flatMap(part => {
      const track = element("span", "track", "", part.hover);
      track.append(...part.phases.map(([phase, share]) => block("i", share / most, phase, part.hover)));
      return [element("span", "name", part.name), track, element("span", "joules", part.shown), element("span", "share", part.percent)];
    }));
  };

  const open = id => {
    all(".panel").forEach(panel => { panel.hidden = panel.id !== id; });
    all(".tabs button").forEach(tab => tab.setAttribute("aria-selected", tab.dataset.panel === id));
    all(`#${id} .plot[data-drawn]`).forEach(plot => Plotly.Plots.resize(plot));
  };
  all(".tabs button").forEach(tab => tab.addEventListener("click", () => open(tab.dataset.panel)));
  all(".finding").forEach(card => card.addEventListener("click", () => {
    open(card.dataset.panel);
    document.querySelector(".tabs").scrollIntoView({ behavior: "smooth" });
  }));
  for (const panel of all(".panel")) {
    const select = panel.querySelector("select");
    select.addEventListener("change", () => choose(panel, select.value));
    choose(panel, select.value);
    const buttons = all(".switch button", panel);
    for (const button of buttons) button.addEventListener("click", () => {
      buttons.forEach(other => other.setAttribute("aria-pressed", other === button));
      const plot = button.closest(".box").querySelector(".plot");
      plot.dataset.figure = button.dataset.figure;
      draw(plot);
    });
  }

  for (const table of all("table")) all("th", table).forEach((head, column) => head.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    all("th", table).forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const value = row => row.cells[column].dataset.value ?? "";
    // What is not known stays below, whichever way the table is sorted.
    body.append(...[...body.rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = Number.isNaN(Number(x)) || Number.isNaN(Number(y)) ? x.localeCompare(y) : Number(x) - Number(y);
      return down ? -order : order;
    }));
  }));
})();
