// The run as it was received: a row per round, and the values of clients in an array per round.

import { isNumber } from "./words.js";

const SUMS = ["seconds", "bytes_down", "bytes_up"];

export class Store {
  constructor() {
    this.generation = 0;
    this.run = {};
    this.begin();
  }

  begin() {
    Object.assign(this, { rounds: [], names: [], columns: [], latestValues: [], latestRound: [], taken: [], uploads: new Map(), refusals: new Map() });
    Object.assign(this, { least: Infinity, most: -Infinity, metric: "accuracy", failed: [], best: null, latest: new Map(), metrics: new Set() });
    this.sums = Object.fromEntries(SUMS.map((name) => [name, 0]));
    this.generation += 1;
  }

  get asked() { return isNumber(this.run.iterations) ? this.run.iterations : 0; }
  get lowerIsBetter() { return this.metric !== "accuracy"; }

  add(row) {
    if (row.index < this.rounds.length) return;
    row.names.forEach((name, place) => { this.names[row.first_name + place] = name; });
    if (row.metric) this.metric = row.metric;
    this.columns.push({ values: this.valuesOf(row), took: this.tookOf(row) });
    for (const [reason, count] of Object.entries(row.refusals || {})) {
      const before = this.refusals.get(reason)?.count || 0;
      this.refusals.set(reason, { reason, count: before + count, iteration: row.iteration });
    }
    const { who: _, values: __, names: ___, participants: ____, ...kept } = row;
    this.rounds.push(kept);
    if (kept.aggregated === false) this.failed.push(kept);
    for (const name of SUMS) this.sums[name] += isNumber(kept[name]) ? kept[name] : 0;
    for (const [name, value] of Object.entries(kept)) if (isNumber(value)) this.latest.set(name, kept);
    for (const name of Object.keys(kept.metrics || {})) this.metrics.add(name);
    const sign = this.lowerIsBetter ? -1 : 1;
    if (isNumber(kept.avg) && (!this.best || sign * kept.avg > sign * this.best.avg)) this.best = kept;
  }

  valuesOf(row) {
    if (!row.values.length) return null;
    const values = new Float64Array(this.names.length).fill(NaN);
    row.values.forEach((value, place) => {
      if (!isNumber(value)) return;
      const client = row.who ? row.who[place] : place;
      values[client] = value;
      this.latestValues[client] = value;
      this.latestRound[client] = row.iteration;
      this.least = Math.min(this.least, value);
      this.most = Math.max(this.most, value);
    });
    return values;
  }

  // 1 for each client that took part and 0 for the others; null where the row does not say
  tookOf(row) {
    const all = row.clients >= Math.max(this.names.length, this.run.clients || 0);
    let took = row.participants;
    if (!took && row.clients === 0) took = [];
    if (!took && !all && row.measured === "drawn") took = row.who ?? row.values.keys();
    if (!took && !all) return null;
    const flags = new Uint8Array(this.names.length);
    if (took) for (const client of took) flags[client] = 1;
    else flags.fill(1);
    flags.forEach((flag, client) => { this.taken[client] = (this.taken[client] || 0) + flag; });
    return flags;
  }

  note(entries) {
    for (const entry of entries) {
      const list = this.uploads.get(entry.iteration) ?? [];
      if (list.length && list.at(-1).uploads > entry.uploads) list.length = 0; // the round was begun again
      list.push(entry);
      this.uploads.set(entry.iteration, list);
    }
    while (this.uploads.size > 50) this.uploads.delete(this.uploads.keys().next().value);
  }

  // The range of the colours; accuracies lie between 0 and 1.
  range() {
    if (this.metric === "accuracy") return [0, 1];
    return this.least <= this.most ? [this.least, this.most] : [0, 1];
  }

  // The values of a column, null where a round has none; the row in which it had its latest value, or null.
  column(name) { return this.rounds.map((row) => (isNumber(row[name]) ? row[name] : null)); }
  last(name) { return this.latest.get(name) ?? null; }
}
