// The live page: receives the run as server-sent events, and draws what is new once per frame.

import { Chart } from "./charts.js";
import { HeatMap } from "./heatmap.js";
import { Store } from "./store.js";
import { PagedTable, rowOf } from "./tables.js";
import { byId, bytes, counted, decimals, element, isNumber, seconds, whole } from "./words.js";

const STATES = { missing: "the folder is gone", waiting: "waiting for a run", training: "training", stopped: "stopped before its end", ended: "ended" };
const store = new Store();

const accuracy = new Chart("accuracy-chart", [
  { label: "AVG", colour: "--avg", value: (value) => decimals(value) },
  { label: "TOP5", colour: "--top5", dash: [7, 4], value: (value) => decimals(value) },
  { label: "LOW5", colour: "--low5", dash: [2, 4], value: (value) => decimals(value) },
], { axis: (value) => decimals(value, value > 10 ? 0 : 2) });
const loss = new Chart("loss-chart", [{ label: "loss", colour: "--loss", value: (value) => decimals(value) }], { axis: (value) => decimals(value, 2) });
const COSTS = {
  bytes: { series: [{ label: "down", colour: "--avg", value: bytes }, { label: "up", colour: "--low5", dash: [7, 4], value: bytes }], axis: bytes, columns: ["bytes_down", "bytes_up"] },
  epsilon: { series: [{ label: "epsilon", colour: "--extra", value: (value) => decimals(value) }], axis: (value) => decimals(value, 2), columns: ["epsilon"] },
  seconds: { series: [{ label: "time", colour: "--top5", value: seconds }], axis: seconds, columns: ["seconds"] },
};
let costMode = "bytes";
const cost = new Chart("cost-chart", COSTS.bytes.series, { axis: COSTS.bytes.axis, least: 0 });
const time = new Chart("time-chart", [{ label: "uploads", colour: "--avg", steps: true, fill: true, value: whole }], { axis: (value) => whole(Math.round(value)), least: 0, unit: "seconds", wholeX: false });

const heat = new HeatMap(store, openLog);

const ROUND_COLUMNS = [
  ["iteration", "round", whole], ["avg", "AVG", decimals], ["top5", "TOP5", decimals], ["low5", "LOW5", decimals],
  ["weighted_avg", "weighted AVG", decimals], ["loss", "loss", decimals], ["clients", "clients", whole], ["samples", "samples", whole],
  ["bytes_down", "down", bytes], ["bytes_up", "up", bytes], ["seconds", "time", seconds], ["steps_per_s", "steps/s", (value) => decimals(value, 1)],
  ["learning_rate", "learning rate", (value) => (isNumber(value) ? String(value) : "–")], ["epsilon", "epsilon", decimals], ["aggregated", "aggregated", (value) => (value === false ? "no" : "yes")],
];
let roundNames = "";
const rounds = new PagedTable("rounds", [], () => [...store.rounds].reverse(), { size: 12, failed: (row) => row.aggregated === false });
const clients = new PagedTable("clients", [
  { of: (client) => client, shown: whole, number: true },
  { of: (client) => store.names[client], shown: (name) => name, heads: true, name: true },
  { of: (client) => store.latestValues[client], shown: (value) => decimals(value), number: true },
  { of: (client) => store.latestRound[client], shown: whole, number: true },
  { of: (client) => (store.taken.length ? store.taken[client] || 0 : undefined), shown: whole, number: true },
  { of: () => null, shown: (_, client) => logButton(client) },
], listedClients, { size: 15, head: false });

function logButton(client) {
  if (client >= store.run.logs) return "";
  const button = element("button", "open", { type: "button", "aria-label": `open the log of client ${client}, ${store.names[client]}` });
  button.addEventListener("click", () => openLog(client));
  return button;
}

function listedClients() {
  const wanted = byId("clients-find").value.trim().toLowerCase(), order = byId("clients-order").value;
  const found = [];
  store.names.forEach((name, client) => { if (!wanted || name.toLowerCase().includes(wanted) || String(client) === wanted) found.push(client); });
  if (order !== "number") {
    const sign = order === "least" ? 1 : -1;
    const of = (client) => (isNumber(store.latestValues[client]) ? sign * store.latestValues[client] : Infinity);
    found.sort((one, other) => of(one) - of(other) || one - other);
  }
  return found;
}

// --- drawing -------------------------------------------------------------------------------------------------------

let waiting = false;
function draw() {
  if (waiting) return;
  waiting = true;
  // A tab in the background gets no frames; what it shows is drawn when it is looked at.
  requestAnimationFrame(() => { waiting = false; drawNow(); });
}

function drawNow() {
  const { run, rounds: rows } = store;
  byId("name").textContent = run.name || "mindfl";
  document.title = rows.length ? `${run.name}: round ${rows.at(-1).iteration}` : run.name || "mindfl";
  byId("title").textContent = run.title || "";
  const state = byId("state");
  state.textContent = STATES[run.state] || "connecting";
  state.className = `state ${run.state || ""}`;
  const problems = byId("problems");
  problems.hidden = !run.problems?.length;
  problems.textContent = (run.problems || []).join("; ");
  drawProgress();
  drawTiles();
  drawCurves();
  heat.draw();
  drawTime();
  drawCost();
  drawRefusals();
  drawRoundColumns();
  rounds.draw();
  clients.draw();
  byId("facts").replaceChildren(...(run.facts || []).map(([name, value]) => {
    const group = element("div");
    group.append(element("dt", name), element("dd", value));
    return group;
  }));
}

const latestUploads = () => [...store.uploads.values()].at(-1)?.at(-1);

function drawProgress() {
  const { run, rounds: rows } = store, done = rows.at(-1)?.iteration || 0, latest = latestUploads();
  const running = run.state === "training" && latest && latest.iteration > done ? latest : null;
  byId("rounds-done").max = Math.max(store.asked, done, 1);
  byId("rounds-done").value = done + (running ? running.uploads / Math.max(running.clients, 1) : 0);
  const words = [store.asked ? `round ${whole(done)} of ${whole(store.asked)}` : counted(done, "round")];
  if (running) words.push(`in round ${running.iteration}: ${whole(running.uploads)} of ${counted(running.clients, "client")}`);
  if (run.stopped) words.push(`ended by ${run.stopped}`);
  words.push(seconds(store.sum("seconds")));
  byId("rounds-text").textContent = words.join(" · ");
}

function tile(name, value, text, note = "") {
  const made = element("div", "", { class: "tile" });
  const shown = element("div", text, { class: "tile-value" });
  if (isNumber(value)) shown.dataset.value = String(value);
  made.dataset.name = name;
  made.append(element("div", name, { class: "tile-name" }), shown, element("div", note, { class: "tile-note", title: note }));
  return made;
}

function drawTiles() {
  const measured = store.last("avg"), last = store.rounds.at(-1), best = bestRound();
  const after = measured ? `after round ${measured.iteration}` : "not evaluated yet";
  const tiles = ["avg", "top5", "low5"].filter((name) => name === "avg" || store.last(name)).map((name) =>
    tile(name.toUpperCase(), measured?.[name], decimals(measured?.[name]), name === "avg" && best ? `best ${decimals(best.avg)} in round ${best.iteration}` : after));
  tiles.push(tile("loss", last?.loss, decimals(last?.loss), last ? `round ${last.iteration}` : ""));
  const down = store.sum("bytes_down"), up = store.sum("bytes_up");
  if (store.last("bytes_up")) tiles.push(tile("bytes", down + up, bytes(down + up), `${bytes(down)} down, ${bytes(up)} up`));
  const private_ = store.last("epsilon");
  if (private_) tiles.push(tile("epsilon", private_.epsilon, decimals(private_.epsilon), "spent so far"));
  const refused = [...store.refusals.values()].reduce((sum, each) => sum + each.count, 0);
  const failed = store.rounds.filter((row) => row.aggregated === false).length;
  tiles.push(tile("refusals", refused, whole(refused), `${counted(failed, "failed round")}`));
  if (isNumber(last?.steps_per_s)) tiles.push(tile("speed", last.steps_per_s, `${whole(Math.round(last.steps_per_s))}`, "steps per second"));
  byId("tiles").replaceChildren(...tiles);
}

function bestRound() {
  const sign = store.lowerIsBetter ? -1 : 1;
  return store.rounds.reduce((best, row) => (isNumber(row.avg) && (!best || sign * row.avg > sign * best.avg) ? row : best), null);
}

function drawCurves() {
  const x = store.column("iteration"), title = store.metric[0].toUpperCase() + store.metric.slice(1), measured = store.last("avg");
  byId("accuracy-heading").textContent = title;
  byId("heat-accuracy-name").textContent = byId("clients-value").textContent = store.metric;
  accuracy.set([x, store.column("avg"), store.column("top5"), store.column("low5")]);
  byId("accuracy-text").textContent = measured
    ? `Mean over ${measured.measured === "central" ? "the central test set" : counted(measured.evaluated, "client")}${isNumber(measured.top5) ? ", the five best and the five worst" : ""}. After round ${measured.iteration}: AVG ${decimals(measured.avg)}${isNumber(measured.top5) ? `, TOP5 ${decimals(measured.top5)}, LOW5 ${decimals(measured.low5)}` : ""}.`
    : "No round has been evaluated yet.";
  const last = store.rounds.at(-1);
  loss.set([x, store.column("loss")]);
  byId("loss-text").textContent = last ? `Mean over the clients' last local epoch. Round ${last.iteration}: ${decimals(last.loss)}.` : "No round has ended yet.";
}

function drawTime() {
  const select = byId("time-round"), known = [...store.uploads.keys()].sort((one, other) => other - one);
  const listed = [...select.options].slice(1).map((each) => Number(each.value));
  if (known.join() !== listed.join()) {
    const chosen = select.value;
    select.replaceChildren(element("option", "latest", { value: "" }), ...known.map((number) => element("option", String(number), { value: number })));
    select.value = known.includes(Number(chosen)) ? chosen : "";
  }
  const number = Number(select.value) || known[0], entries = store.uploads.get(number) || [];
  const row = store.rounds.find((each) => each.iteration === number), end = row?.seconds;
  byId("time-details").hidden = !entries.length;
  if (!entries.length) {
    time.clear();
    byId("time-text").textContent = "Uploads within a round are recorded by --live. The time of each round is under Cost.";
    return;
  }
  const points = [[0, 0], ...entries.map((each) => [each.seconds, each.uploads])], latest = entries.at(-1);
  if (isNumber(end) && end > latest.seconds) points.push([end, latest.uploads]);
  time.set([points.map(([x]) => x), points.map(([, y]) => y)]);
  byId("time-text").textContent = `Round ${number}: ${whole(latest.uploads)} of ${counted(latest.clients, "upload")} after ${seconds(latest.seconds)}` + (isNumber(end) ? `, ended after ${seconds(end)} with aggregation and evaluation.` : ".");
  if (byId("time-details").open) {
    byId("time-table").replaceChildren(...entries.map((each) => rowOf([element("td", decimals(each.seconds, 2)), element("td", whole(each.uploads)), element("td", decimals(each.loss))])));
  }
}

function drawCost() {
  const chosen = COSTS[costMode], x = store.column("iteration");
  document.querySelector('#cost-mode [value="epsilon"]').disabled = !store.last("epsilon");
  cost.set([x, ...chosen.columns.map((name) => store.column(name))]);
  const sums = { bytes: `${bytes(store.sum("bytes_down"))} sent to clients and ${bytes(store.sum("bytes_up"))} uploaded so far.`, epsilon: `Epsilon spent so far: ${decimals(store.last("epsilon")?.epsilon)}.`, seconds: `${seconds(store.sum("seconds"))} so far, evaluation included.` };
  byId("cost-text").textContent = `Per round. ${sums[costMode]}`;
}

function drawRefusals() {
  const found = [...store.refusals.values()].sort((one, other) => other.count - one.count);
  const failed = store.rounds.filter((row) => row.aggregated === false);
  const words = [found.length ? `${whole(found.reduce((sum, each) => sum + each.count, 0))} requests were refused.` : "No request was refused, as far as the run has recorded."];
  words.push(failed.length ? `${counted(failed.length, "round")} failed, the latest is ${failed.at(-1).iteration}${failed.at(-1).reason ? ` (${failed.at(-1).reason})` : ""}.` : "No round failed.");
  byId("refusals-text").textContent = words.join(" ");
  byId("refusals-table").hidden = !found.length;
  byId("refusals-rows").replaceChildren(...found.map(({ reason, count, iteration }) => {
    const cells = [element("th", reason, { scope: "row" }), element("td", whole(count), { class: "number" }), element("td", whole(iteration), { class: "number" })];
    cells[1].dataset.value = String(count);
    return rowOf(cells);
  }));
}

// Columns that hold something, and the metrics that callbacks added.
function drawRoundColumns() {
  const metrics = [...new Set(store.rounds.flatMap((row) => Object.keys(row.metrics || {})))];
  const there = ROUND_COLUMNS.filter(([name], place) => place < 2 || store.rounds.some((row) => row[name] != null));
  const names = [...there.map(([name]) => name), ...metrics].join();
  if (names === roundNames) return;
  roundNames = names;
  rounds.set([
    ...there.map(([name, title, shown], place) => ({ title, of: (row) => row[name], shown: (value) => shown(value), number: true, heads: place === 0 })),
    ...metrics.map((name) => ({ title: name, of: (row) => row.metrics?.[name], shown: (value) => decimals(value), number: true })),
  ]);
}

// --- the log of a client -------------------------------------------------------------------------------------------

let shownLog = null;
async function openLog(client) {
  shownLog = client;
  const dialog = byId("log"), place = byId("log-text");
  byId("log-heading").textContent = `Log of client ${client}, ${store.names[client] ?? ""}`;
  place.textContent = "";
  byId("log-size").textContent = "reading";
  if (!dialog.open) dialog.showModal();
  try {
    const answer = await fetch(`logs/${client}`);
    if (!answer.ok) throw new Error(await answer.text());
    const { text, bytes: size } = await answer.json();
    if (shownLog !== client) return;
    const whole_ = new TextEncoder().encode(text).length >= size;
    byId("log-size").textContent = whole_ ? `client_${client}/client.log, ${bytes(size)}` : `The end of client_${client}/client.log, which has ${bytes(size)}`;
    place.textContent = text;
    place.scrollTop = place.scrollHeight;
  } catch (error) {
    byId("log-size").textContent = error instanceof TypeError ? "The server of this page has ended." : error.message;
  }
}

byId("log-close").addEventListener("click", () => byId("log").close());
byId("log-again").addEventListener("click", () => openLog(shownLog));
byId("heat-mode").addEventListener("change", (event) => { heat.mode = event.target.value; draw(); });
byId("heat-order").addEventListener("change", (event) => { heat.order = event.target.value; heat.redraw(); });
byId("cost-mode").addEventListener("change", (event) => {
  costMode = event.target.value;
  cost.replace(COSTS[costMode].series, { axis: COSTS[costMode].axis });
  draw();
});
byId("time-round").addEventListener("change", draw);
byId("time-details").addEventListener("toggle", draw);
for (const id of ["clients-find", "clients-order"]) byId(id).addEventListener("input", () => { clients.page = 0; clients.draw(); });

// --- events --------------------------------------------------------------------------------------------------------

const source = new EventSource("events");
const connection = (text) => { byId("connection").textContent = text; };
const on = (kind, take) => source.addEventListener(kind, (event) => { take(JSON.parse(event.data)); draw(); });

on("begin", () => store.begin());
on("run", (run) => { store.run = run; });
on("row", (row) => store.add(row));
on("timeline", ({ begins, entries }) => { if (begins) store.uploads.clear(); store.note(entries); });
on("end", () => {
  source.close();
  connection("The program that served this page has ended; what it sent stays. mindfl watch shows the folder again.");
});
source.addEventListener("open", () => connection(""));
source.addEventListener("error", () => connection(source.readyState === EventSource.CLOSED ? "No connection: load the page again." : "No connection: trying again."));
draw();
