// What of a timeline is shown, a stretch of time and of each track a range of its values; and how a mouse, fingers, a
// wheel and keys change that.
const DRAGGED = 5, BOXED = 12, APART = 10;

class View {
  constructor(end) {
    this.end = end;
    this.whole();
  }

  get narrow() { return this.to - this.from < this.end || Object.keys(this.ranges).length > 0; }

  whole() {
    this.from = 0;
    this.to = this.end;
    this.ranges = {};
  }

  show(from, to) {
    const span = Math.min(this.end, Math.max(this.end / 1e5, to - from));
    this.from = Math.max(0, Math.min(from, this.end - span));
    this.to = this.from + span;
  }

  // Closer by less than 1, farther by more; what is at this time stays where it is.
  scale(factor, time = (this.from + this.to) / 2) {
    if (factor > 1 && this.to - this.from >= this.end) return this.whole();
    this.show(time - (time - this.from) * factor, time + (this.to - time) * factor);
  }

  move(share) {
    const step = share * (this.to - this.from);
    this.show(this.from + step, this.to + step);
  }

  // Of a track's values: whole lanes, and no less than what can still be told apart.
  range({ kind, most }, ...ends) {
    let [low, high] = ends.sort((a, b) => a - b);
    const least = kind === "lanes" ? 1 : most / 1e3;
    if (kind === "lanes") [low, high] = [Math.floor(low), Math.ceil(high)];
    const span = Math.min(most, Math.max(least, high - low)), start = Math.max(0, Math.min(low, most - span));
    if (span >= most) delete this.ranges[kind];
    else this.ranges[kind] = [start, start + span];
  }
}

class Gestures {
  constructor(timeline) {
    this.timeline = timeline;
    this.down = new Map();
    const { canvas } = timeline, on = (name, does, how) => canvas.addEventListener(name, does, how);
    on("pointerdown", event => this.press(event));
    on("pointermove", event => this.move(event));
    on("pointerup", event => this.lift(event, true));
    on("pointercancel", event => this.lift(event, false));
    on("pointerleave", () => hint(""));
    on("dblclick", () => this.change(view => view.whole()));
    on("keydown", event => this.key(event));
    on("wheel", event => this.wheel(event), { passive: false });
  }

  get view() { return this.timeline.view; }

  change(how) {
    if (!this.timeline.columns) return;
    how(this.view);
    hint("");
    this.timeline.draw();
  }

  press(event) {
    if (!this.timeline.columns || event.button > 0) return;
    this.timeline.canvas.setPointerCapture(event.pointerId);
    this.down.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    this.does = this.down.size > 1 ? "pinch" : event.pointerType === "touch" && this.view.narrow ? "pan" : "box";
    this.start = { x: event.offsetX, y: event.offsetY, at: [...this.down.values()].map(({ x }) => this.timeline.time(x)) };
  }

  move(event) {
    if (!this.timeline.columns) return;
    if (!this.down.has(event.pointerId)) return this.timeline.say(event);
    const before = this.down.get(event.pointerId).x;
    this.down.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    if (this.does === "box") this.timeline.boxed(this.box(event));
    if (this.does === "pan") this.change(view => view.move((before - event.offsetX) / this.timeline.plot));
    if (this.does === "pinch" && this.down.size === 2) this.pinch();
  }

  // The times that were under both fingers stay under them.
  pinch() {
    const [[a, b], [left, right]] = [[...this.down.values()].map(({ x }) => x), this.start.at];
    if (Math.abs(b - a) < APART || (right - left) * (b - a) <= 0) return;
    const second = (right - left) / (b - a), from = left - (a - LEFT) * second;
    this.change(view => {
      view.show(from, from + second * this.timeline.plot);
    });
  }

  lift(event, meant) {
    if (!this.down.delete(event.pointerId)) return;
    const { timeline } = this, box = this.box(event), boxed = this.does === "box" && meant;
    // The finger that is left of two draws no box.
    if (this.down.size) { this.does = "rest"; return; }
    if (!boxed || box.right - box.left <= DRAGGED) {
      timeline.draw();
      return meant && this.does === "box" ? timeline.say(event) : undefined;
    }
    this.change(view => {
      if (box.track) view.range(box.track, timeline.value(box.track, box.bottom), timeline.value(box.track, box.top));
      view.show(timeline.time(Math.max(box.left, LEFT)), timeline.time(Math.min(box.right, timeline.width - RIGHT)));
    });
  }

  // Across all tracks, unless it is high enough to mean values of the track that it began in.
  box({ offsetX: x, offsetY: y }) {
    const { timeline, start } = this, left = Math.min(start?.x, x), right = Math.max(start?.x, x);
    const track = timeline.laid.find(({ top, height }) => start?.y >= top && start?.y <= top + height);
    if (!track || Math.abs(y - start.y) < BOXED) return { left, right, top: 0, bottom: timeline.height };
    const inside = y => Math.max(track.top, Math.min(y, track.top + track.height));
    return { left, right, track, top: inside(Math.min(start.y, y)), bottom: inside(Math.max(start.y, y)) };
  }

  // A pinch on a trackpad is a wheel with Ctrl; a wheel without scrolls the page.
  wheel(event) {
    if (!this.timeline.columns) return;
    const sideways = event.shiftKey ? event.deltaY || event.deltaX : Math.abs(event.deltaX) > Math.abs(event.deltaY) ? event.deltaX : 0;
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      this.change(view => view.scale(2 ** (Math.max(-50, Math.min(50, event.deltaY)) / 50), this.timeline.time(event.offsetX)));
    } else if (sideways && this.view.narrow) {
      event.preventDefault();
      this.change(view => view.move(sideways / this.timeline.plot));
    }
  }

  key(event) {
    if (!this.timeline.columns || event.ctrlKey || event.metaKey || event.altKey) return;
    const lanes = this.timeline.laid[0], { low, high } = lanes, some = Math.max(1, Math.round((high - low) / 5));
    const rows = (from, to) => view => view.range(lanes, from, to);
    const half = Math.ceil((high - low) / 4);
    const does = {
      "+": view => view.scale(0.5), "=": view => view.scale(0.5), "-": view => view.scale(2),
      "0": view => view.whole(), Escape: view => view.whole(),
      Home: view => view.move(-1e6), End: view => view.move(1e6),
      ArrowLeft: view => view.move(-0.2), ArrowRight: view => view.move(0.2),
      "]": rows(low + half, high - half), "[": rows(low - 2 * half, high + 2 * half),
      // Without rows above or below, the page scrolls.
      ...(high - low < lanes.most && { ArrowUp: rows(low - some, high - some), ArrowDown: rows(low + some, high + some) }),
    }[event.key];
    if (!does) return;
    event.preventDefault();
    this.change(does);
  }
}
