// The tables of rounds and of clients.

import { openLog } from "./client_log.js";
import { PagedTable } from "./tables.js";
import { byId, bytes, decimals, element, isNumber, seconds, whole } from "./words.js";

const ROUND_COLUMNS = [
  ["iteration", "round", whole], ["avg", "AVG", decimals], ["top5", "TOP5", decimals], ["low5", "LOW5", decimals],
  ["weighted_avg", "weighted AVG", decimals], ["loss", "loss", decimals], ["clients", "clients", whole], ["samples", "samples", whole],
  ["bytes_down", "down", bytes], ["bytes_up", "up", bytes], ["seconds", "time", seconds], ["steps_per_s", "steps/s", (value) => decimals(value, 1)],
  ["learning_rate", "learning rate", (value) => (isNumber(value) ? String(value) : "–")], ["epsilon", "epsilon", decimals],
];
const AGGREGATED = { title: "aggregated", of: (row) => row.aggregated, shown: (value) => (value === false ? "no" : "yes") };

// The latest round is on top. Columns: those that hold something, and the metrics that callbacks added.
export class RoundTable {
  constructor(store) {
    const newestFirst = { get length() { return store.rounds.length; }, at: (place) => store.rounds.at(-1 - place) };
    this.store = store;
    this.names = "";
    this.table = new PagedTable("rounds", [], () => newestFirst, { size: 12, failed: (row) => row.aggregated === false });
  }

  draw() {
    const { store } = this, metrics = [...store.metrics];
    const there = ROUND_COLUMNS.filter(([name], place) => place < 2 || store.last(name));
    const names = [...there.map(([name]) => name), ...metrics].join();
    if (names !== this.names) {
      this.names = names;
      this.table.set([
        ...there.map(([name, title, shown], place) => ({ title, of: (row) => row[name], shown: (value) => shown(value), number: true, heads: place === 0 })),
        { ...AGGREGATED, number: true },
        ...metrics.map((name) => ({ title: name, of: (row) => row.metrics?.[name], shown: (value) => decimals(value), number: true })),
      ]);
    }
    this.table.draw();
  }
}

export class ClientTable {
  constructor(store) {
    this.store = store;
    this.key = "";
    this.table = new PagedTable("clients", [
      { of: (client) => client, shown: whole, number: true },
      { of: (client) => store.names[client], shown: (name) => name, heads: true, name: true },
      { of: (client) => store.latestValues[client], shown: (value) => decimals(value), number: true },
      { of: (client) => store.latestRound[client], shown: whole, number: true },
      { of: (client) => (store.taken.length ? store.taken[client] || 0 : undefined), shown: whole, number: true },
      { of: (client) => client < (store.run.logs || 0), shown: (has, client) => (has ? this.button(client) : "") },
    ], () => this.listed(), { size: 15, head: false });
    for (const id of ["clients-find", "clients-order"]) byId(id).addEventListener("input", () => { this.table.page = 0; this.draw(); });
  }

  button(client) {
    const name = this.store.names[client];
    const button = element("button", "open", { type: "button", "aria-label": `open the log of client ${client}, ${name}` });
    button.addEventListener("click", () => openLog(client, name));
    return button;
  }

  draw() { this.table.draw(); }

  // The clients that are searched for, in the order that was chosen.
  listed() {
    const { names, latestValues, rounds, generation } = this.store;
    const wanted = byId("clients-find").value.trim().toLowerCase(), order = byId("clients-order").value;
    const key = [generation, names.length, order, order === "number" ? 0 : rounds.length, wanted].join();
    if (key === this.key) return this.found;
    const found = [...names.keys()].filter((client) => !wanted || names[client].toLowerCase().includes(wanted) || String(client) === wanted);
    if (order !== "number") {
      const sign = order === "least" ? 1 : -1;
      const of = (client) => (isNumber(latestValues[client]) ? sign * latestValues[client] : Infinity);
      found.sort((one, other) => of(one) - of(other) || one - other);
    }
    Object.assign(this, { key, found });
    return found;
  }
}
