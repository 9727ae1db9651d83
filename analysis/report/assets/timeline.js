// One run in time on a canvas. Its columns are unpacked when it first comes into view, or when the page has nothing else
// to do, so that it is there to be printed; what lies in one pixel is drawn once, so that 100,000 calls are as quick as a
// hundred.
const ARRAYS = { f4: Float32Array, u4: Uint32Array, i4: Int32Array };
const PHASES = [["queue", "start", "begun"], ["prefill", "begun", "first"], ["decode", "first", "end"]];
const ZOOMS = { in: view => view.scale(0.5), out: view => view.scale(2), all: view => view.whole() };
const LEFT = 58, RIGHT = 10, AXIS = 26;
const unpacked = new Map();

const unpack = async name => {
  if (unpacked.has(name)) return unpacked.get(name);
  const text = document.getElementById(name).textContent;
  const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  const { columns, count } = data.timelines[name];
  const found = Object.fromEntries(columns.map(([column, kind], i) =>
    [column, new ARRAYS[kind](buffer, 4 * i * count, count)]));
  unpacked.set(name, found);
  return found;
};

const digits = (value, unit) => value >= 100 ? `${Math.round(value).toLocaleString("en")} ${unit}` : `${Number(value.toPrecision(3))} ${unit}`;
const count = value => Number(value.toPrecision(4)).toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 });
const lanesOf = ([low, high]) => high - low > 1 ? `lanes ${low + 1} to ${high}` : `lane ${high}`;
const seconds = value => value >= 1 || value === 0 ? digits(value, "s") : digits(1000 * value, "ms");
const steps = (from, to, about) => {
  const size = 10 ** Math.floor(Math.log10((to - from) / about));
  const step = [1, 2, 5, 10].map(lead => lead * size).find(step => (to - from) / step <= about);
  const found = [];
  for (let i = Math.ceil(from / step); i * step <= to + 1e-9 * step; i++) found.push(Number((i * step).toPrecision(12)));
  return found;
};

class Timeline {
  constructor(canvas) {
    this.canvas = canvas;
    canvas.timeline = this;
    this.box = canvas.closest(".box");
    this.gestures = new Gestures(this);
    for (const button of all("[data-zoom]", this.box))
      button.addEventListener("click", () => this.gestures.change(ZOOMS[button.dataset.zoom]));
    new ResizeObserver(() => this.columns && this.draw()).observe(canvas);
  }

  async open(name) {
    this.run = data.timelines[name];
    this.view = new View(Math.max(this.run.end, 1e-6));
    this.columns = await unpack(name);
    this.canvas.dataset.drawn = name;
    this.legend();
    this.draw();
  }

  legend() {
    const { power, watched } = this.run, kinds = this.columns.kind;
    const names = [...(watched ? [["queue", "queue"]] : []), ["prefill", "prefill"], ["decode", "decode"]];
    if (kinds.includes(2)) names.push(["tool", "tool call"]);
    if (kinds.includes(1)) names.push(["bad", "failed"]);
    if (power) names.push(["power", "GPU power"]);
    if (power?.hbm_w.length) names.push(["series-3", "its memory (HBM)"]);
    if (power?.bound.some(share => share > 0)) names.push(["bound", "cap bound"]);
    this.box.querySelector(".key.lanes").replaceChildren(...names.map(([tint, name]) => {
      const made = element("span", "", name);
      made.style.setProperty("--c", `var(--${tint})`);
      return made;
    }));
  }

  tracks() {
    const { power, batch, lanes } = this.run, found = [];
    const add = (kind, height, most) => {
      const last = found.at(-1), [low, high] = this.view.ranges[kind] ?? [0, most];
      found.push({ kind, top: last ? last.top + last.height + 30 : 22, height, most, low, high });
    };
    add("lanes", Math.round(Math.max(90, Math.min(520, 13 * lanes))), lanes);
    if (batch) add("batch", 46, Math.max(...batch.calls, 1));
    if (power?.clock_mhz.some(clock => clock !== null)) add("clock", 46, Math.max(...power.clock_mhz));
    if (power) {
      const most = Math.max(...power.watts);
      add("power", 110, Math.max(most, power.cap !== null && power.cap < 2 * most ? power.cap : 0));
    }
    return found;
  }

  get from() { return this.view.from; }
  get to() { return this.view.to; }
  get plot() { return this.width - LEFT - RIGHT; }
  x(time) { return LEFT + this.plot * (time - this.from) / (this.to - this.from); }
  time(x) { return this.from + (this.to - this.from) * (x - LEFT) / this.plot; }
  // Lanes are counted from the top, values from the bottom.
  value({ kind, top, height, low, high }, y) {
    const share = (y - top) / height;
    return low + (high - low) * (kind === "lanes" ? share : 1 - share);
  }

  // What is shown of the run, where it is not all of it.
  stretch() {
    if (!this.view?.narrow) return "";
    const { lanes } = this.view.ranges;
    const fine = Math.max(0, Math.min(9, 2 - Math.floor(Math.log10(this.to - this.from))));
    return `${this.from.toFixed(fine)} to ${this.to.toFixed(fine)} s${lanes ? `, ${lanesOf(lanes)}` : ""}`;
  }

  boxed({ left, right, top, bottom }) {
    hint("");
    this.draw();
    const pen = this.canvas.getContext("2d");
    pen.fillStyle = pen.strokeStyle = colour("accent");
    pen.globalAlpha = 0.18;
    pen.fillRect(left, top, right - left, bottom - top);
    pen.globalAlpha = 0.6;
    pen.strokeRect(left + 0.5, top + 0.5, right - left, bottom - top - 1);
    pen.globalAlpha = 1;
  }

  say(event) {
    const [lanes] = this.laid, { columns: c, run } = this;
    const time = this.time(event.offsetX), lane = this.value(lanes, event.offsetY);
    if (lane < lanes.low || lane >= lanes.high) return hint(this.line(time), event.clientX, event.clientY);
    const reach = Math.max(0.5, 1.5 * (lanes.high - lanes.low) / lanes.height), slack = 2 * (this.to - this.from) / this.width;
    let found = -1;
    for (let i = 0; i < run.count && found < 0; i++)
      if (Math.abs(c.lane[i] + 0.5 - lane) <= reach && c.start[i] - slack <= time && time <= c.end[i] + slack) found = i;
    hint(found < 0 ? "" : this.said(found), event.clientX, event.clientY);
  }

  said(i) {
    const { columns: c, run } = this;
    const head = `${run.nodes[c.node[i]]} · ${run.workflows[c.workflow[i]]}`;
    if (c.kind[i] === 2) return `${head}\ntool call · ${seconds(c.end[i] - c.start[i])}`;
    const count = value => value < 0 ? "–" : value;
    const joules = Number.isNaN(c.joules[i]) ? "–" : digits(c.joules[i], "J");
    const phases = PHASES.map(([name, from, to]) => [name, c[to][i] - c[from][i]]).filter(([, length]) => length > 0);
    return [head, `${count(c.prompt[i])} in, ${count(c.cached[i])} cached, ${count(c.output[i])} out`,
      `${joules} · ${seconds(c.end[i] - c.start[i])}`, phases.map(([name, length]) => `${name} ${seconds(length)}`).join(" · "),
      ...(c.kind[i] === 1 ? ["failed"] : [])].join("\n");
  }

  line(time) {
    const { power, batch } = this.run;
    const at = times => Math.max(0, times.findLastIndex(t => t <= time));
    const said = [seconds(Math.max(0, time))];
    if (batch) said.push(`${batch.calls[at(batch.times_s)]} calls in a step`);
    if (power) {
      const i = at(power.times_s);
      said.push(digits(power.watts[i], "W"));
      if (power.clock_mhz[i]) said.push(digits(power.clock_mhz[i], "MHz"));
      if (power.bound[i]) said.push(`cap bound ${Math.round(100 * power.bound[i])} %`);
    }
    return said.join("\n");
  }

  draw() {
    const scale = devicePixelRatio || 1;
    this.laid = this.tracks();
    this.width = this.canvas.clientWidth;
    this.height = this.laid.at(-1).top + this.laid.at(-1).height + AXIS;
    this.canvas.style.height = `${this.height}px`;
    this.canvas.width = Math.round(this.width * scale);
    this.canvas.height = Math.round(this.height * scale);
    const pen = this.canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, this.width, this.height);
    pen.font = '12px Inter, system-ui, sans-serif';
    const part = this.stretch();
    this.canvas.setAttribute("aria-label", `${this.run.count} calls and tool calls of ${this.run.label} over ${seconds(this.run.end)}${part && `, shown: ${part}`}`);
    this.axis(pen);
    for (const track of this.laid) this[track.kind](pen, track);
  }

  axis(pen) {
    const bottom = this.height - AXIS;
    pen.textAlign = "center";
    for (const tick of steps(this.from, this.to, Math.max(3, Math.min(8, this.width / 110)))) {
      const x = Math.round(this.x(tick)) + 0.5;
      pen.strokeStyle = colour("grid");
      pen.beginPath(); pen.moveTo(x, 22); pen.lineTo(x, bottom); pen.stroke();
      pen.fillStyle = colour("ink-3");
      pen.fillText(`${tick} s`, Math.min(x, this.width - 14), bottom + 18);
    }
  }

  name(pen, { kind, top, height, low, high }, name) {
    pen.fillStyle = colour("ink-2"); pen.textAlign = "left"; pen.fillText(name, LEFT, top - 8);
    pen.strokeStyle = colour("line");
    pen.beginPath(); pen.moveTo(LEFT, top + height + 0.5); pen.lineTo(this.width - RIGHT, top + height + 0.5); pen.stroke();
    if (kind === "lanes") return;
    pen.fillStyle = colour("ink-3"); pen.textAlign = "right";
    pen.fillText(count(high), LEFT - 8, top + 9);
    pen.fillText(count(low), LEFT - 8, top + height + 1);
  }

  lanes(pen, track) {
    const { columns: c, run } = this, { low, high } = track, deep = track.height / (high - low);
    const said = high - low < run.lanes ? `${lanesOf([low, high])} of ${run.lanes}` : "workflows, in the order of their arrival";
    this.name(pen, track, `${said}${deep < 1 ? " (several lanes a line)" : ""}`);
    const tall = Math.max(1, deep > 4 ? deep - 1.5 : deep);
    const tints = Object.fromEntries(["queue", "prefill", "decode", "tool", "bad"].map(name => [name, colour(name)]));
    pen.save();
    pen.beginPath(); pen.rect(LEFT, track.top, this.width - LEFT - RIGHT, track.height); pen.clip();
    let row = -1, filled = -1;
    for (let i = 0; i < run.count; i++) {
      if (c.end[i] < this.from || c.start[i] > this.to || c.lane[i] < low || c.lane[i] >= high) continue;
      const top = track.top + (c.lane[i] - low) * deep, line = Math.floor(top);
      if (line !== row) { row = line; filled = -1; }
      const end = this.x(c.end[i]);
      if (deep < 1 && end <= filled) continue;
      if (end - this.x(c.start[i]) < 1 && end <= filled + 0.5) continue;
      const bar = (tint, from, to) => {
        const [a, b] = [this.x(from), this.x(to)];
        if (b <= a) return;
        pen.fillStyle = tint;
        pen.fillRect(a, top, Math.max(0.6, b - a), tall);
      };
      if (c.kind[i] === 2) bar(tints.tool, c.start[i], c.end[i]);
      else for (const [name, from, to] of PHASES) bar(c.kind[i] === 1 ? tints.bad : tints[name], c[from][i], c[to][i]);
      filled = Math.max(filled, end);
    }
    pen.restore();
  }

  path(pen, track, times, values, tint, filled) {
    const { low, high } = track, y = value => track.top + track.height * (1 - (value - low) / (high - low || 1));
    pen.save();
    pen.beginPath(); pen.rect(LEFT, track.top - 2, this.width - LEFT - RIGHT, track.height + 4); pen.clip();
    pen.beginPath();
    let down = false;
    for (let i = 0; i + 1 < times.length; i++) {
      if (times[i + 1] < this.from || times[i] > this.to) continue;
      if (values[i] === null) { down = false; continue; }
      const [a, b, h] = [this.x(times[i]), this.x(times[i + 1]), y(values[i])];
      if (down) pen.lineTo(a, h); else pen.moveTo(a, h);
      pen.lineTo(b, h);
      down = true;
    }
    pen.strokeStyle = tint; pen.lineWidth = 1.4; pen.stroke(); pen.lineWidth = 1;
    if (filled) {
      pen.lineTo(this.width, y(low)); pen.lineTo(LEFT, y(low));
      pen.globalAlpha = 0.12; pen.fillStyle = tint; pen.fill(); pen.globalAlpha = 1;
    }
    pen.restore();
  }

  batch(pen, track) {
    const { times_s, calls } = this.run.batch;
    this.name(pen, track, "calls in a step");
    this.path(pen, track, times_s, calls, colour("decode"), true);
  }

  clock(pen, track) {
    const { times_s, clock_mhz } = this.run.power;
    this.name(pen, track, "SM clock (MHz)");
    this.path(pen, track, times_s, clock_mhz, colour("ink-3"));
  }

  power(pen, track) {
    const { times_s, watts, bound, hbm_w, cap } = this.run.power;
    pen.fillStyle = colour("bound");
    bound.forEach((share, i) => {
      if (!share || i + 1 >= times_s.length) return;
      const [a, b] = [Math.max(LEFT, this.x(times_s[i])), Math.min(this.width - RIGHT, this.x(times_s[i + 1]))];
      if (b > a) { pen.globalAlpha = share; pen.fillRect(a, track.top, b - a, track.height); }
    });
    pen.globalAlpha = 1;
    this.name(pen, track, `GPU power (W)${cap !== null ? `, cap ${cap} W` : ""}`);
    this.path(pen, track, times_s, watts, colour("power"), true);
    if (hbm_w.length) this.path(pen, track, times_s, hbm_w, colour("series-3"));
    if (cap === null || cap > track.high || cap < track.low) return;
    const y = track.top + track.height * (1 - (cap - track.low) / (track.high - track.low));
    pen.strokeStyle = colour("ink-3"); pen.setLineDash([5, 4]);
    pen.beginPath(); pen.moveTo(LEFT, y); pen.lineTo(this.width - RIGHT, y); pen.stroke(); pen.setLineDash([]);
  }
}

const timelines = new Map(all("canvas.time").map(canvas => [canvas, new Timeline(canvas)]));
const unseen = new Set(timelines.keys());
const first = canvas => {
  seen.unobserve(canvas);
  if (unseen.delete(canvas)) return timelines.get(canvas).open(canvas.dataset.timeline);
};
const seen = new IntersectionObserver(entries => {
  for (const { isIntersecting, target } of entries) if (isIntersecting) first(target);
}, { rootMargin: "300px" });
for (const canvas of timelines.keys()) seen.observe(canvas);
const idle = globalThis.requestIdleCallback ?? (does => setTimeout(does, 500));
const rest = async () => {
  for (const canvas of unseen) {
    await first(canvas);
    return idle(rest);
  }
};
addEventListener("load", () => idle(rest));
for (const button of all("[data-timeline]:not(canvas)")) button.addEventListener("click", () => {
  all("button", button.parentElement).forEach(other => other.setAttribute("aria-pressed", other === button));
  const canvas = button.closest(".box").querySelector("canvas");
  unseen.delete(canvas);
  seen.unobserve(canvas);
  timelines.get(canvas).open(button.dataset.timeline);
});
const redraw = () => timelines.forEach(found => found.columns && found.draw());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
// What hides a panel leaves its canvas without a width.
const hidden = [];
addEventListener("beforeprint", () => {
  hidden.push(...all(".panel[hidden]"));
  for (const panel of hidden) panel.hidden = false;
  redraw();
});
addEventListener("afterprint", () => { for (const panel of hidden.splice(0)) panel.hidden = true; });
