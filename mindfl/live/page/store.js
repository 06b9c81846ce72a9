// The run as it was received: a row per round, and the values of clients in an array per round.

import { isNumber } from "./words.js";

export class Store {
  constructor() {
    this.generation = 0;
    this.run = {};
    this.begin();
  }

  begin() {
    Object.assign(this, { rounds: [], names: [], columns: [], latestValues: [], latestRound: [], taken: [], uploads: new Map(), refusals: new Map() });
    Object.assign(this, { least: Infinity, most: -Infinity, metric: "accuracy" });
    this.generation += 1;
  }

  get asked() { return isNumber(this.run.iterations) ? this.run.iterations : 0; }
  get lowerIsBetter() { return this.metric !== "accuracy"; }

  add(row) {
    if (row.index < this.rounds.length) return;
    row.names.forEach((name, place) => { this.names[row.first_name + place] = name; });
    if (row.metric) this.metric = row.metric;
    const who = row.who ?? row.values.map((_, place) => place);
    const values = who.length ? new Float64Array(this.names.length).fill(NaN) : null;
    who.forEach((client, place) => {
      const value = row.values[place];
      if (!isNumber(value)) return;
      values[client] = value;
      this.latestValues[client] = value;
      this.latestRound[client] = row.iteration;
      this.least = Math.min(this.least, value);
      this.most = Math.max(this.most, value);
    });
    const total = Math.max(this.names.length, this.run.clients || 0);
    let took = null;
    if (row.participants) took = row.participants;
    else if (row.clients >= total) took = "all";
    else if (row.clients === 0) took = [];
    else if (row.measured === "drawn") took = who;
    let flags = null;
    if (took) {
      flags = new Float32Array(this.names.length).fill(took === "all" ? 1 : 0);
      if (took !== "all") for (const client of took) if (client < flags.length) flags[client] = 1;
      flags.forEach((flag, client) => { this.taken[client] = (this.taken[client] || 0) + flag; });
    }
    for (const [reason, count] of Object.entries(row.refusals || {})) {
      const before = this.refusals.get(reason)?.count || 0;
      this.refusals.set(reason, { reason, count: before + count, iteration: row.iteration });
    }
    const { who: _, values: __, names: ___, participants: ____, ...kept } = row;
    this.rounds.push(kept);
    this.columns.push({ values, took: flags });
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

  values(round) { return this.columns[round].values; }
  took(round) { return this.columns[round].took; }
  latest() { return this.latestValues; }

  // The range of the colours; accuracies lie between 0 and 1.
  range() {
    if (this.metric === "accuracy") return [0, 1];
    return this.least <= this.most ? [this.least, this.most] : [0, 1];
  }

  column(name) { return this.rounds.map((row) => (isNumber(row[name]) ? row[name] : null)); }
  sum(name) { return this.rounds.reduce((sum, row) => sum + (isNumber(row[name]) ? row[name] : 0), 0); }
  last(name) {
    for (let at = this.rounds.length - 1; at >= 0; at -= 1) if (isNumber(this.rounds[at][name])) return this.rounds[at];
    return null;
  }
}
