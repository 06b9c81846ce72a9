// Clients by rounds on a canvas. A new round draws its own column; where clients share a pixel it shows their mean.

import { byId, counted, decimals, isNumber, put } from "./words.js";

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
  // store: the rounds and their clients; opened(client) is told of a click; changed() when there is something to draw
  constructor(store, { opened, changed }) {
    Object.assign(this, { store, opened, changed, mode: "accuracy", order: "number", client: 0, round: 0, pointed: false, drawn: 0, key: "", wide: 0 });
    this.cells = byId("heat-cells");
    this.cursor = byId("heat-cursor");
    this.context = this.cells.getContext("2d");
    new ResizeObserver(([{ contentRect }]) => { this.wide = contentRect.width; changed(); }).observe(byId("heat"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { this.key = ""; changed(); });
    this.cursor.addEventListener("pointermove", (event) => this.point(event));
    this.cursor.addEventListener("pointerleave", () => { this.pointed = document.activeElement === this.cursor; this.mark(); });
    this.cursor.addEventListener("click", (event) => { this.point(event); if (this.pointed) this.opened(this.client); });
    this.cursor.addEventListener("keydown", (event) => this.key_pressed(event));
    this.cursor.addEventListener("focus", () => { if (this.columns) { this.pointed = true; this.mark(); } });
    this.cursor.addEventListener("blur", () => { this.pointed = false; this.mark(); });
  }

  get columns() { return this.store.rounds.length; }
  get clients() { return this.store.names.length; }

  // Draws what is new, everything where the size, the colours' range or the order has changed, until the time `end`.
  // Returns whether there is more to draw.
  draw(end) {
    if (!this.wide || !this.clients || !this.columns) { this.cells.height = this.cursor.height = 0; this.key = ""; return false; }
    this.prepare();
    while (this.drawn < this.columns) {
      this.column(this.drawn);
      this.drawn += 1;
      if (performance.now() >= end) break;
    }
    if (this.pointed) this.mark();
    return this.drawn < this.columns;
  }

  prepare() {
    const scale = Math.min(window.devicePixelRatio || 1, 2);
    const cell = Math.min(26, Math.max(Math.ceil(440 / this.clients), 1));
    const height = Math.max(Math.min(this.clients * cell, 440), 60);
    const sorted = this.order === "value" ? this.columns : 0;
    const [least, most] = this.store.range();
    // where the number of rounds is not known, there is room for some more
    if (!(this.columns <= this.room) || this.generation !== this.store.generation) this.room = Math.ceil(this.columns * 1.5);
    this.generation = this.store.generation;
    const asked = Math.max(this.store.asked >= this.columns ? this.store.asked : this.room, 12);
    const key = [this.wide, scale, height, asked, this.clients, this.mode, this.order, sorted, least, most, this.store.generation].join();
    if (key === this.key) return;
    Object.assign(this, { key, asked, least, most, drawn: 0, width: Math.round(this.wide * scale), height: Math.round(height * scale) });
    this.cells.width = this.cursor.width = this.width;
    this.cells.height = this.cursor.height = this.height;
    this.cells.style.height = `${height}px`;
    this.back = rgb("--cell");
    this.colour = rgb("--took");
    this.sort();
    this.bins();
    put(byId("heat-least"), this.mode === "accuracy" ? decimals(least, 2) : "not drawn");
    put(byId("heat-most"), this.mode === "accuracy" ? decimals(most, 2) : "took part");
    byId("heat-legend").className = `legend ${this.mode}${this.store.lowerIsBetter ? " reverse" : ""}`;
    this.cursor.setAttribute("aria-description", counted(this.clients, "client"));
  }

  sort() {
    this.sorted = Int32Array.from({ length: this.clients }, (_, number) => number);
    if (this.order === "value") {
      const latest = this.store.latestValues;
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
    const { values, took } = this.store.columns[round], shown = this.mode === "accuracy" ? values : took;
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
    if (!this.pointed || !this.key || this.client >= this.clients) return;
    this.round = Math.min(this.round, this.columns - 1);
    const left = this.left(this.round), wide = Math.max(this.left(this.round + 1) - left, 3);
    const top = (this.places[this.client] * this.height) / this.clients, high = Math.max(this.height / this.clients, 3);
    for (const [colour, width] of [["#000", 4], ["#fff", 2]]) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.strokeRect(left, top, wide, high);
    }
    const column = this.store.columns[this.round], value = column.values?.[this.client], took = column.took?.[this.client];
    const words = [`client ${this.client}, ${this.store.names[this.client]}`, `round ${this.store.rounds[this.round].iteration}`];
    words.push(isNumber(value) ? `${this.store.metric} ${decimals(value)}` : "not evaluated");
    words.push(took === 1 ? "took part" : took === 0 ? "not drawn" : "participation unknown");
    put(byId("heat-cell"), words.join(": ").replace(": round", ", round"));
  }
}
