// The page of a sweep: its runs with how far they are, their values, and a curve of each.

import { Chart } from "./charts.js";
import { Inbox, Parts } from "./frames.js";
import { PagedTable } from "./tables.js";
import { byId, counted, decimals, element, isNumber, put, whole } from "./words.js";

const STATES = { missing: "the folder is gone", training: "running", stopped: "stopped before its end", ended: "ended" };
const COLOURS = ["--avg", "--low5", "--top5", "--loss", "--extra", "--soft"], DASHES = [undefined, [7, 4], [2, 4], [10, 3, 2, 3]];
const MOST_CURVES = COLOURS.length * DASHES.length;
// Neighbours differ in colour and dash, and no two curves have both in common.
const dashOf = (place) => DASHES[(place + Math.floor(place / (MOST_CURVES / 2))) % DASHES.length];
let sweep = { runs: [] }, values = [];

const better = (run, one, other) => (run.metric === "accuracy" ? one > other : one < other);

// The latest and the best round of a run that were evaluated, as [round, value]; null if there is none.
function summary(number) {
  const points = (values[number] ?? []).filter(([, value]) => isNumber(value)), run = sweep.runs[number];
  const best = points.reduce((found, point) => (!found || better(run, point[1], found[1]) ? point : found), null);
  return { rounds: values[number]?.at(-1)?.[0] ?? 0, last: points.at(-1) ?? null, best };
}

let summaries = [];

function byBest() {
  const of = (number) => (summaries[number].best ? summaries[number].best[1] * (sweep.runs[number].metric === "accuracy" ? -1 : 1) : Infinity);
  const found = [...sweep.runs.keys()];
  return found.sort((one, other) => (of(one) === of(other) ? one - other : of(one) - of(other)));
}

function drawHead() {
  put(byId("name"), sweep.name || "mindfl");
  const state = byId("state"), done = sweep.runs.filter((run) => run.status === "done").length;
  put(state, STATES[sweep.state] || "connecting");
  state.className = `state ${sweep.state || ""}`;
  byId("problems").hidden = !sweep.problems?.length;
  put(byId("problems"), (sweep.problems || []).join("; "));
  byId("runs-done").max = Math.max(sweep.runs.length, 1);
  byId("runs-done").value = done;
  const words = [`${whole(done)} of ${counted(sweep.runs.length, "run")} done`];
  for (const status of ["running", "failed", "stopped", "waiting"]) {
    const count = sweep.runs.filter((run) => run.status === status).length;
    if (count) words.push(`${whole(count)} ${status}`);
  }
  put(byId("runs-text"), words.join(" · "));
  document.title = `${sweep.name || "mindfl"}: ${words[0]}`;
}

const link = (number) => element("a", sweep.runs[number].name, { href: `runs/${number}/` });
const badge = (status) => element("span", status, { class: `state ${{ running: "training", done: "ended", failed: "stopped", stopped: "stopped" }[status] ?? ""}` });
const of = (name) => (number) => summaries[number][name];
const COLUMNS = [
  { title: "run", of: (number) => sweep.runs[number].name, shown: (_, number) => link(number), heads: true, name: true },
  { title: "status", of: (number) => sweep.runs[number].status, shown: badge },
  { title: "rounds", of: (number) => `${whole(summaries[number].rounds)}${isNumber(sweep.runs[number].iterations) ? ` of ${whole(sweep.runs[number].iterations)}` : ""}`, shown: (text) => text, number: true },
  { title: "latest", of: (number) => of("last")(number)?.[1], shown: (value) => decimals(value), number: true },
  { title: "best", of: (number) => of("best")(number)?.[1], shown: (value) => decimals(value), number: true },
  { title: "in round", of: (number) => of("best")(number)?.[0], shown: whole, number: true },
];
const ERROR = { title: "why it failed", of: (number) => sweep.runs[number].error, shown: (text) => text ?? "", wraps: true };
const table = new PagedTable("runs", COLUMNS, () => (byId("runs-order").value === "best" ? byBest() : [...sweep.runs.keys()]), { size: 50 });
let columns = "";

function drawTable() {
  const varied = [...new Set(sweep.runs.flatMap((run) => Object.keys(run.varies)))], fails = sweep.runs.some((run) => run.error);
  const key = [...varied, fails].join("\n");
  if (key !== columns) {
    columns = key;
    const settings = varied.map((name) => ({ title: name, of: (number) => sweep.runs[number].varies[name], shown: (text) => text ?? "", name: true }));
    table.set([COLUMNS[0], ...settings, ...COLUMNS.slice(1), ...(fails ? [ERROR] : [])]);
  }
  table.draw();
}

const chart = new Chart("curves-chart", [], { axis: (value) => decimals(value, value > 10 ? 0 : 2), high: 320 });
let drawn = "";

// Runs of the metric that most have, the best ones where they are many.
function drawCurves() {
  const metric = sweep.runs[0]?.metric ?? "accuracy", alike = byBest().filter((number) => sweep.runs[number].metric === metric && summaries[number].last);
  const shown = alike.slice(0, MOST_CURVES).sort((one, other) => one - other);
  put(byId("curves-heading"), `${metric[0].toUpperCase()}${metric.slice(1)} by round`);
  const best = alike[0];
  const words = [shown.length ? `AVG of each run. Best: ${sweep.runs[best].name} with ${decimals(summaries[best].best[1])} in round ${summaries[best].best[0]}.` : "No round has been evaluated yet."];
  if (shown.length < alike.length) words.push(`The ${shown.length} best of ${alike.length} runs are drawn.`);
  put(byId("curves-text"), words.join(" "));
  const key = shown.map((number) => `${number} ${sweep.runs[number].name}`).join("\n");
  if (key !== drawn) {
    drawn = key;
    chart.replace(shown.map((number, place) => ({ label: sweep.runs[number].name, colour: COLOURS[place % COLOURS.length], dash: dashOf(place), value: (value) => decimals(value) })), {});
  }
  const rounds = [...new Set(shown.flatMap((number) => values[number].map(([round]) => round)))].sort((one, other) => one - other);
  chart.set([rounds, ...shown.map((number) => { const at = new Map(values[number]); return rounds.map((round) => at.get(round) ?? null); })]);
}

const parts = new Parts({ head: drawHead, table: drawTable, curves: drawCurves });
const KINDS = {
  begin: () => { values = []; },
  sweep: (found) => { sweep = found; },
  points: ({ run, points }) => { (values[run] ??= []).push(...points); },
  end: () => { connection("The program that served this page has ended; what it sent stays."); if (sweep.state === "ended") source.close(); },
};
const inbox = new Inbox(({ type, data }) => KINDS[type](JSON.parse(data)), () => {
  summaries = [...sweep.runs.keys()].map(summary);
  parts.need("head", "table", "curves");
});
const connection = (text) => put(byId("connection"), text);
const source = new EventSource("events?kind=sweep");
source.addEventListener("other", () => location.reload()); // the folder has another page now
for (const kind of Object.keys(KINDS)) source.addEventListener(kind, (event) => inbox.push(event));
source.addEventListener("open", () => connection(""));
source.addEventListener("error", () => connection(source.readyState === EventSource.CLOSED ? "No connection: load the page again." : "No connection: trying again."));
byId("runs-order").addEventListener("change", () => parts.need("table"));
