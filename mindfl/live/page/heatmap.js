// Clients by rounds on a canvas. A new round draws its own column; where clients share a pixel it shows their mean.

import { byId, counted, decimals, isNumber } from "./words.js";

const ANCHORS = ["440154", "482878", "3e4989", "31688e", "26828e", "1f9e89", "35b779", "6ece58", "b5de2b", "fde725"]
  .map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));
// viridis: readable with every kind of colour blindness, and in grey
const RAMP = Array.from({ length: 256 }, (_, step) => {
  const place = (step / 255) * (ANCHORS.length - 1);
  const low = Math.min(Math.floor(place), ANCHORS.length - 2);
  return ANCHORS[low].map((part, channel) => Math.round(part + (ANCHORS[low + 1][channel] - part) * (place - low)));
});

const rgb = (name) => {
  const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim().slice(1);
  return [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16));
};

export class HeatMap {
  // store: rounds, names, values(round, client), took(round, client); opened(client) is told of a click
  constructor(store, opened) {
    Object.assign(this, { store, opened, mode: "accuracy", order: "number", client: 0, round: 0, pointed: false, drawn: 0, key: "" });
    this.cells = byId("heat-cells");
    this.cursor = byId("heat-cursor");
    this.context = this.cells.getContext("2d", { alpha: true });
    new ResizeObserver(() => this.draw()).observe(byId("heat"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
    this.cursor.addEventListener("pointermove", (event) => this.point(event));
    this.cursor.addEventListener("pointerleave", () => { this.pointed = document.activeElement === this.cursor; this.mark(); });
    this.cursor.addEventListener("click", (event) => { this.point(event); if (this.pointed) this.opened(this.client); });
    this.cursor.addEventListener("keydown", (event) => this.key_pressed(event));
    this.cursor.addEventListener("focus", () => { if (this.columns) { this.pointed = true; this.mark(); } });
    this.cursor.addEventListener("blur", () => { this.pointed = false; this.mark(); });
  }

  redraw() { this.key = ""; this.draw(); }

  get columns() { return this.store.rounds.length; }
  get clients() { return this.store.names.length; }

  // Draws what is new; everything where the size, the colours' range or the order has changed.
  draw() {
    const width = byId("heat").clientWidth;
    if (!width || !this.clients || !this.columns) { this.cells.height = this.cursor.height = 0; this.key = ""; return; }
    const scale = Math.min(window.devicePixelRatio || 1, 2);
    const cell = Math.min(26, Math.max(Math.ceil(440 / this.clients), 1));
    const height = Math.max(Math.min(this.clients * cell, 440), 60);
    this.width = Math.round(width * scale);
    this.height = Math.round(height * scale);
    const asked = Math.max(this.store.asked || 0, this.columns, 12);
    const [least, most] = this.store.range();
    const key = [this.width, this.height, asked, this.clients, this.mode, this.order, least, most, this.store.generation].join();
    if (key !== this.key || this.order === "value") {
      this.key = key;
      Object.assign(this, { asked, least, most, drawn: 0 });
      this.cells.width = this.cursor.width = this.width;
      this.cells.height = this.cursor.height = this.height;
      this.cells.style.height = `${height}px`;
      this.back = rgb("--cell");
      this.colour = rgb("--took");
      this.sort();
      this.bins();
    }
    for (; this.drawn < this.columns; this.drawn += 1) this.column(this.drawn);
    this.mark();
    byId("heat-least").textContent = this.mode === "accuracy" ? decimals(this.least, 2) : "not drawn";
    byId("heat-most").textContent = this.mode === "accuracy" ? decimals(this.most, 2) : "took part";
    byId("heat-legend").className = `legend ${this.mode}${this.store.lowerIsBetter ? " reverse" : ""}`;
  }

  sort() {
    this.sorted = Int32Array.from({ length: this.clients }, (_, number) => number);
    if (this.order === "value") {
      const latest = this.store.latest();
      const of = (client) => (isNumber(latest[client]) ? latest[client] : Infinity);
      this.sorted.sort((one, other) => of(one) - of(other) || one - other);
    }
    this.places = new Int32Array(this.clients);
    this.sorted.forEach((client, place) => { this.places[client] = place; });
  }

  // The first client of each row of pixels.
  bins() {
    this.first = Int32Array.from({ length: this.height + 1 }, (_, y) => Math.floor((y * this.clients) / this.height));
    this.first[this.height] = this.clients;
    this.gap = this.height / this.clients >= 7 && this.width / this.asked >= 7 ? 1 : 0;
  }

  left(round) { return Math.floor((round * this.width) / this.asked); }

  column(round) {
    const left = this.left(round), wide = Math.max(this.left(round + 1) - left, 1);
    const image = this.context.createImageData(wide, this.height);
    const pixels = new Uint32Array(image.data.buffer);
    const shown = this.mode === "accuracy" ? this.store.values(round) : this.store.took(round);
    const span = this.most - this.least || 1;
    for (let y = 0; y < this.height; y += 1) {
      const from = this.first[y], to = Math.max(this.first[y + 1], from + 1);
      if (this.gap && this.first[y + 1] !== from && y + 1 < this.height) continue;
      let sum = 0, count = 0;
      if (shown) {
        for (let place = from; place < to; place += 1) {
          const value = shown[this.sorted[place]];
          if (value === value && value !== undefined) { sum += value; count += 1; }
        }
      }
      let colour = this.back, alpha = count ? 255 : 110;
      if (count && this.mode === "accuracy") {
        const share = Math.min(Math.max((sum / count - this.least) / span, 0), 1);
        colour = RAMP[Math.round((this.store.lowerIsBetter ? 1 - share : share) * 255)];
      } else if (count) {
        const share = sum / count;
        colour = this.back.map((part, channel) => Math.round(part + (this.colour[channel] - part) * share));
      }
      const [red, green, blue] = colour;
      const begin = y * wide;
      pixels.fill(((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0, begin, begin + wide - (wide > 2 ? this.gap : 0));
    }
    this.context.putImageData(image, left, 0);
  }

  point(event) {
    if (!this.columns || !this.clients) return;
    const box = this.cursor.getBoundingClientRect();
    const round = Math.floor(((event.clientX - box.left) / box.width) * this.asked);
    const place = Math.floor(((event.clientY - box.top) / box.height) * this.clients);
    this.pointed = round >= 0 && round < this.columns && place >= 0 && place < this.clients;
    if (this.pointed) Object.assign(this, { round, client: this.sorted[place] });
    this.mark();
  }

  key_pressed(event) {
    if (!this.columns || !this.clients) return;
    const many = Math.max(Math.round(this.clients / 20), 2);
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], PageUp: [-many, 0], PageDown: [many, 0], Home: [0, -Infinity], End: [0, Infinity] };
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); this.opened(this.client); return; }
    if (!(event.key in steps)) return;
    event.preventDefault();
    const [down, right] = steps[event.key];
    const limit = (value, most) => Math.min(Math.max(value, 0), most);
    this.client = this.sorted[limit(this.places[this.client] + down, this.clients - 1)];
    this.round = limit(this.round + right, this.columns - 1);
    this.pointed = true;
    this.mark();
  }

  mark() {
    const context = this.cursor.getContext("2d");
    context.clearRect(0, 0, this.cursor.width, this.cursor.height);
    if (!this.pointed || !this.columns || this.client >= this.clients) return;
    this.round = Math.min(this.round, this.columns - 1);
    const left = this.left(this.round), wide = Math.max(this.left(this.round + 1) - left, 3);
    const top = (this.places[this.client] * this.height) / this.clients, high = Math.max(this.height / this.clients, 3);
    for (const [colour, width] of [["#000", 4], ["#fff", 2]]) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.strokeRect(left, top, wide, high);
    }
    const value = this.store.values(this.round)?.[this.client], took = this.store.took(this.round)?.[this.client];
    const words = [`client ${this.client}, ${this.store.names[this.client]}`, `round ${this.store.rounds[this.round].iteration}`];
    words.push(isNumber(value) ? `${this.store.metric} ${decimals(value)}` : "not evaluated");
    words.push(took === 1 ? "took part" : took === 0 ? "not drawn" : "participation unknown");
    byId("heat-cell").textContent = words.join(": ").replace(": round", ", round");
    this.cursor.setAttribute("aria-description", counted(this.clients, "client"));
  }
}
