// A figure over two knobs of the reader's choice; every other knob is held at a setting.
const TINTS = 5;

const shade = (value, known) => {
  let low = Math.min(...known), high = Math.max(...known);
  if (low > 0) high = Math.max(high, 1.1 * low);  // values that hardly differ look alike
  if (low > 0 && high >= 3 * low) [low, high, value] = [low, high, value].map(Math.log);
  return high > low ? (value - low) / (high - low) : 0;
};

const options = (select, names, chosen) => {
  select.replaceChildren(...names.map((name, i) => new Option(name, i, false, i === chosen)));
  select.value = chosen;
};
const choice = (name, names, chosen, changed) => {
  const label = element("label", "", name), select = element("select");
  options(select, names, chosen);
  select.addEventListener("change", () => changed(Number(select.value)));
  label.append(select);
  return label;
};

const field = (map, figure, i, known, best) => {
  const td = element("td");
  const button = element("button", "field");
  const value = figure.values[i], words = figure.words[i].split("\n")[0];
  button.dataset.cell = map.cells[i];
  button.dataset.said = [map.cells[i], figure.words[i], map.marks[i]].filter(Boolean).join("\n");
  button.append(element("b", "", words), element("small", "", map.marks[i]));
  if (value !== null) {
    const tint = shade(value, known);
    button.style.background = `var(--heat-${Math.min(TINTS - 1, Math.floor((figure.more ? 1 - tint : tint) * TINTS))})`;
    if (known.length > 1 && value === best) button.classList.add("best");
  }
  td.append(button);
  return td;
};

const grid = (map, state) => {
  const figure = map.figures[state.figure];
  const [x, y] = [map.knobs[state.x], map.knobs[state.y]];
  const here = map.at.map((at, i) => i).filter(i =>
    map.knobs.every((_, k) => k === state.x || k === state.y || map.at[i][k] === state.held[k]));
  const known = here.map(i => figure.values[i]).filter(value => value !== null);
  const best = figure.more ? Math.max(...known) : Math.min(...known);
  const table = element("table", "heat");
  const head = element("tr");
  head.append(element("th"), ...x.values.map(value => Object.assign(element("th", "", value), { scope: "col" })));
  table.createTHead().append(head);
  const body = table.createTBody();
  (y === x ? [""] : y.values).forEach((value, row) => {
    const line = body.insertRow();
    line.append(Object.assign(element("th", "", value), { scope: "row" }));
    x.values.forEach((_, column) => {
      const i = here.find(i => map.at[i][state.x] === column && (y === x || map.at[i][state.y] === row));
      line.append(i === undefined ? element("td", "", "") : field(map, figure, i, known, best));
    });
  });
  return table;
};

for (const place of all(".map")) {
  const panel = place.closest(".panel"), choices = place.previousElementSibling;
  const map = data.maps[panel.id];
  const named = name => map.figures.findIndex(figure => figure.name === name);
  const wanted = place.dataset.first === "0" ? named("GPU energy") : named("workflow latency p50");
  const start = map.at[Math.max(0, map.cells.indexOf(panel.querySelector(".configuration").value))];
  const state = { figure: Math.max(0, wanted), x: 0, y: Math.min(1, map.knobs.length - 1), held: [...start] };
  const draw = () => {
    const names = map.knobs.map(knob => knob.label);
    const change = key => value => {
      if (key === "x" && value === state.y) state.y = state.x;
      if (key === "y" && value === state.x) state.x = state.y;
      state[key] = value;
      draw();
    };
    const focused = [...choices.querySelectorAll("select")].indexOf(document.activeElement);
    choices.replaceChildren(
      choice("figure", map.figures.map(figure => figure.name), state.figure, change("figure")),
      choice("across", names, state.x, change("x")),
      ...(names.length > 1 ? [choice("down", names, state.y, change("y"))] : []),
      ...map.knobs.flatMap((knob, k) => k === state.x || k === state.y ? [] : [
        choice(`at ${knob.label}`, knob.values, state.held[k], value => { state.held[k] = value; draw(); })]),
    );
    place.replaceChildren(grid(map, state));
    if (focused >= 0) choices.querySelectorAll("select")[focused]?.focus();
    choose(panel, panel.querySelector(".configuration").value);
  };
  place.draw = draw;
}
