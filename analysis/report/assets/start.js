// Tabs, saving and enlarging pictures, and the first choice of every panel.
const tabs = all("[role=tab]");
const open = (id, focus = false) => {
  all(".panel").forEach(panel => { panel.hidden = panel.id !== id; });
  for (const tab of tabs) {
    const mine = tab.dataset.panel === id;
    tab.setAttribute("aria-selected", mine);
    tab.tabIndex = mine ? 0 : -1;
    if (mine && focus) tab.focus();
  }
};
tabs.forEach((tab, i) => {
  tab.addEventListener("click", () => open(tab.dataset.panel));
  tab.addEventListener("keydown", event => {
    const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    open(tabs[(to + tabs.length) % tabs.length].dataset.panel, true);
  });
});
all(".finding").forEach(card => card.addEventListener("click", () => {
  open(card.dataset.panel);
  document.getElementById("pictures").scrollIntoView({ behavior: calm.matches ? "auto" : "smooth" });
}));

const download = (blob, name) => {
  const link = element("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
};
const labelled = (canvas, title, source, key) => {
  const made = element("canvas"), scale = devicePixelRatio || 1, room = 34 * scale;
  made.width = canvas.width;
  made.height = canvas.height + 3 * room;
  const pen = made.getContext("2d");
  pen.fillStyle = colour("surface");
  pen.fillRect(0, 0, made.width, made.height);
  pen.drawImage(canvas, 0, room);
  pen.fillStyle = colour("ink");
  pen.font = `600 ${15 * scale}px Inter, system-ui, sans-serif`;
  pen.fillText(title, 8 * scale, 22 * scale);
  pen.font = `${12 * scale}px Inter, system-ui, sans-serif`;
  let x = 8 * scale;
  for (const one of key) {
    const y = canvas.height + 1.6 * room;
    pen.fillStyle = colour(one.style.getPropertyValue("--c").slice(6, -1));
    pen.fillRect(x, y - 10 * scale, 11 * scale, 11 * scale);
    pen.fillStyle = colour("ink-2");
    pen.fillText(one.textContent, x + 17 * scale, y);
    x += pen.measureText(one.textContent).width + 37 * scale;
  }
  pen.fillStyle = colour("ink");
  pen.fillText(source, 8 * scale, made.height - 10 * scale);
  return made;
};
// What a picture is of, away from the page: the workload, what is shown of it, and the configuration that is.
const titled = box => {
  const panel = box.closest(".panel"), run = box.querySelector("[data-timeline][aria-pressed=true]");
  const one = box.matches(".chosen-one") ? panel.querySelector(".configuration").value : run && data.timelines[run.dataset.timeline].label;
  const canvas = box.querySelector("canvas.time"), part = canvas && timelines.get(canvas).stretch();
  const said = [box.querySelector("h3").textContent, one, part].filter(Boolean).join(", ");
  return panel ? `${panel.querySelector(".of").textContent}: ${said}` : said;
};
// A saved picture has its colours, its title and whose joules these are in itself.
const save = box => {
  const title = titled(box), source = box.querySelector(".badge")?.title ?? "";
  const name = title.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "");
  const canvas = box.querySelector("canvas");
  if (canvas) return labelled(canvas, title, source, all(".key span", box)).toBlob(blob => download(blob, `${name}.png`));
  const drawn = box.querySelector("svg").cloneNode(true);
  const [, , width, height] = drawn.getAttribute("viewBox").split(" ").map(Number);
  const room = Math.max(width, 9 * Math.max(title.length, source.length));
  drawn.setAttribute("viewBox", `0 -34 ${room} ${height + 62}`);
  drawn.setAttribute("width", room);
  drawn.setAttribute("height", height + 62);
  const said = (text, y, size, weight) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", "text");
    Object.entries({ x: 8, y, "font-size": size, "font-weight": weight, fill: "var(--ink)" }).forEach(([k, v]) => made.setAttribute(k, v));
    made.textContent = text;
    drawn.append(made);
  };
  said(title, -14, 15, 600);
  said(source, height + 18, 12, 400);
  drawn.setAttribute("style", `background:${colour("surface")}`);
  const text = new XMLSerializer().serializeToString(drawn).replace(/var\(--([\w-]+)\)/g, (_, tint) => colour(tint));
  download(new Blob([text], { type: "image/svg+xml" }), `${name}.svg`);
};
const large = document.querySelector("dialog.large");
const enlarge = box => {
  const drawn = box.querySelector("svg"), canvas = box.querySelector("canvas"), room = large.querySelector("div");
  if (drawn) room.replaceChildren(drawn.cloneNode(true));
  else {
    const shot = element("img");
    shot.alt = canvas.getAttribute("aria-label");
    shot.src = canvas.toDataURL();
    room.replaceChildren(shot);
  }
  const badge = box.querySelector(".badge")?.cloneNode(true);
  large.querySelector("header").replaceChildren(element("h3", "", titled(box)), ...(badge ? [badge] : []));
  large.showModal();
};
large.addEventListener("click", event => { if (event.target === large) large.close(); });
document.addEventListener("click", event => {
  const does = event.target.closest?.("[data-do]")?.dataset.do;
  if (does === "save") save(event.target.closest(".box"));
  if (does === "enlarge") enlarge(event.target.closest(".box"));
  if (does === "close") large.close();
});

for (const panel of all(".panel")) {
  const select = panel.querySelector(".configuration");
  select.addEventListener("change", () => choose(panel, select.value));
  choose(panel, select.value);
  for (const place of all(".map", panel)) place.draw();
}
