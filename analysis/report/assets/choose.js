// Choosing a configuration fills in everything that is said of one.
const PAGE_ROWS = 25;

const block = (name, share, tint, said, text = "") => {
  const made = element(name, "", text);
  made.dataset.said = said;
  made.style.width = `${100 * share}%`;
  made.style.background = `var(--${tint})`;
  return made;
};
const pairs = facts => facts.map(([term, value]) => {
  const pair = element("div");
  pair.append(element("dt", "", term), element("dd", "", value));
  return pair;
});

const rowsOf = (parts, most) => parts.flatMap(part => {
  const track = element("span", "track");
  track.dataset.said = part.hover;
  track.append(...part.phases.map(([phase, share]) => block("i", share / most, phase, part.hover)));
  return [element("span", "name", part.name), track, element("span", "joules", part.shown), element("span", "share", part.percent)];
});
const fillRows = (rows, parts, most, shown = PAGE_ROWS) => {
  rows.replaceChildren(...rowsOf(parts.slice(0, shown), most));
  if (parts.length <= shown) return;
  const more = element("button", "more", `${parts.length - shown} more`);
  more.addEventListener("click", () => fillRows(rows, parts, most, shown + 200));
  rows.append(more);
};

const fillGraph = (panel, parts, most) => {
  const named = new Map(parts.map(part => [part.name, part]));
  for (const card of all(".card:not(.quiet)", panel)) {
    const part = named.get(card.dataset.node);
    card.querySelector(".joules").textContent = part?.joules ?? "–";
    card.querySelector(".share").textContent = part?.percent ?? "";
    const fill = card.querySelector(".fill");
    fill.setAttribute("width", Math.max(0, part?.share ?? 0) * fill.dataset.of);
    const hot = part?.share > 0 && part.share === most;
    card.querySelector(".base").setAttribute("fill", `var(--${hot ? "accent-soft" : "surface"})`);
    card.querySelector(".base").setAttribute("stroke", `var(--${hot ? "accent" : "line"})`);
  }
};

const choose = (panel, label) => {
  const cell = data.cells[panel.id].find(cell => cell.label === label);
  if (!cell) return;
  panel.querySelector(".configuration").value = label;
  panel.querySelector(".chosen dl").replaceChildren(...pairs(cell.facts));
  for (const said of all(".said", panel)) said.replaceChildren(...pairs(cell[said.dataset.of]));
  const most = Math.max(...cell.parts.map(part => part.share), 1e-9);
  const hottest = Math.max(...cell.parts.filter(part => part.colour.startsWith("series")).map(part => part.share), 0);
  fillGraph(panel, cell.parts, hottest);
  panel.querySelector(".strip")?.replaceChildren(...cell.parts.map(part => {
    const said = `${part.name}: ${part.joules}, ${part.percent}`;
    const made = block("span", part.share, part.colour, said, part.share > 0.09 ? `${part.name} ${part.percent}` : "");
    if (part.colour === "idle" || part.colour === "tool") made.className = "light";
    return made;
  }));
  for (const rows of all(".rows", panel)) fillRows(rows, cell[rows.dataset.of], most);
  for (const mark of all("[data-cell]", panel)) mark.classList.toggle("current", mark.dataset.cell === label);
};

const pick = event => {
  const mark = event.target.closest?.("[data-cell]");
  if (!mark) return;
  if (event.type === "keydown" && event.key !== "Enter" && event.key !== " ") return;
  event.preventDefault();
  const panel = mark.closest(".panel") ?? all(".panel").find(panel => !panel.hidden);
  choose(panel, mark.dataset.cell);
};
document.addEventListener("click", pick);
document.addEventListener("keydown", pick);
