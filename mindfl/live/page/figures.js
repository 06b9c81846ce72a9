// The curves of a run with their texts, and the list of refusals.

import { Chart } from "./charts.js";
import { rowOf } from "./tables.js";
import { byId, bytes, counted, decimals, element, isNumber, put, seconds, whole } from "./words.js";

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

export function drawAccuracy(store) {
  const title = store.metric[0].toUpperCase() + store.metric.slice(1), measured = store.last("avg");
  for (const [id, text] of [["accuracy-heading", title], ["heat-accuracy-name", store.metric], ["clients-value", store.metric]]) put(byId(id), text);
  accuracy.set(["iteration", "avg", "top5", "low5"].map((name) => store.column(name)));
  put(byId("accuracy-text"), measured
    ? `Mean over ${measured.measured === "central" ? "the central test set" : counted(measured.evaluated, "client")}${isNumber(measured.top5) ? ", the five best and the five worst" : ""}. After round ${measured.iteration}: AVG ${decimals(measured.avg)}${isNumber(measured.top5) ? `, TOP5 ${decimals(measured.top5)}, LOW5 ${decimals(measured.low5)}` : ""}.`
    : "No round has been evaluated yet.");
}

export function drawLoss(store) {
  const last = store.rounds.at(-1);
  loss.set([store.column("iteration"), store.column("loss")]);
  put(byId("loss-text"), last ? `Mean over the clients' last local epoch. Round ${last.iteration}: ${decimals(last.loss)}.` : "No round has ended yet.");
}

export function drawTime(store) {
  const select = byId("time-round"), known = [...store.uploads.keys()].sort((one, other) => other - one);
  const listed = [...select.options].slice(1).map((each) => Number(each.value));
  if (known.join() !== listed.join()) {
    const chosen = select.value;
    select.replaceChildren(element("option", "latest", { value: "" }), ...known.map((number) => element("option", String(number), { value: number })));
    select.value = known.includes(Number(chosen)) ? chosen : "";
  }
  const number = Number(select.value) || known[0], entries = store.uploads.get(number) || [];
  byId("time-details").hidden = !entries.length;
  if (!entries.length) {
    time.empty();
    put(byId("time-text"), "Uploads within a round are recorded by --live. The time of each round is under Cost.");
    return;
  }
  const end = store.rounds.findLast((each) => each.iteration === number)?.seconds;
  const points = [[0, 0], ...entries.map((each) => [each.seconds, each.uploads])], latest = entries.at(-1);
  if (isNumber(end) && end > latest.seconds) points.push([end, latest.uploads]);
  time.set([points.map(([x]) => x), points.map(([, y]) => y)]);
  put(byId("time-text"), `Round ${number}: ${whole(latest.uploads)} of ${counted(latest.clients, "upload")} after ${seconds(latest.seconds)}` + (isNumber(end) ? `, ended after ${seconds(end)} with aggregation and evaluation.` : "."));
  if (byId("time-details").open) {
    byId("time-table").replaceChildren(...entries.map((each) => rowOf([element("td", decimals(each.seconds, 2)), element("td", whole(each.uploads)), element("td", decimals(each.loss))])));
  }
}

// What the cost curve shows: a name of COSTS.
export function showCost(mode) {
  costMode = mode;
  cost.replace(COSTS[mode].series, { axis: COSTS[mode].axis });
}

export function drawCost(store) {
  const chosen = COSTS[costMode], { sums } = store;
  document.querySelector('#cost-mode [value="epsilon"]').disabled = !store.last("epsilon");
  cost.set(["iteration", ...chosen.columns].map((name) => store.column(name)));
  const texts = { bytes: `${bytes(sums.bytes_down)} sent to clients and ${bytes(sums.bytes_up)} uploaded so far.`, epsilon: `Epsilon spent so far: ${decimals(store.last("epsilon")?.epsilon)}.`, seconds: `${seconds(sums.seconds)} so far, evaluation included.` };
  put(byId("cost-text"), `Per round. ${texts[costMode]}`);
}

export function drawRefusals({ refusals, failed }) {
  const found = [...refusals.values()].sort((one, other) => other.count - one.count);
  const words = [found.length ? `${whole(found.reduce((sum, each) => sum + each.count, 0))} requests were refused.` : "No request was refused, as far as the run has recorded."];
  words.push(failed.length ? `${counted(failed.length, "round")} failed, the latest is ${failed.at(-1).iteration}${failed.at(-1).reason ? ` (${failed.at(-1).reason})` : ""}.` : "No round failed.");
  put(byId("refusals-text"), words.join(" "));
  byId("refusals-table").hidden = !found.length;
  if (!found.length && !byId("refusals-rows").children.length) return;
  byId("refusals-rows").replaceChildren(...found.map(({ reason, count, iteration }) => {
    const cells = [element("th", reason, { scope: "row" }), element("td", whole(count), { class: "number" }), element("td", whole(iteration), { class: "number" })];
    cells[1].dataset.value = String(count);
    return rowOf(cells);
  }));
}
