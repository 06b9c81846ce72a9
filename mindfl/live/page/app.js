// The page of a run: receives it as server-sent events, and draws the parts that have changed.

import { openLog } from "./client_log.js";
import { drawAccuracy, drawCost, drawLoss, drawRefusals, drawTime, showCost } from "./figures.js";
import { Inbox, Parts } from "./frames.js";
import { drawHead, drawProgress, drawTiles, titleOf } from "./head.js";
import { HeatMap } from "./heatmap.js";
import { ClientTable, RoundTable } from "./listing.js";
import { Store } from "./store.js";
import { byId } from "./words.js";

const store = new Store();
const heat = new HeatMap(store, { opened: (client) => openLog(client, store.names[client]), changed: () => parts.need("heat") });
const rounds = new RoundTable(store), clients = new ClientTable(store);
const parts = new Parts({
  head: () => drawHead(store),
  progress: () => drawProgress(store),
  tiles: () => drawTiles(store),
  accuracy: () => drawAccuracy(store),
  loss: () => drawLoss(store),
  heat: (end) => heat.draw(end),
  time: () => drawTime(store),
  cost: () => drawCost(store),
  refusals: () => drawRefusals(store),
  rounds: () => rounds.draw(),
  clients: () => clients.draw(),
});

const STOPPED = "The program that served this page has stopped. The page goes on when it is started again with the same --live_port.";

// What an event does to the run, and the parts that show it.
const OF_ROUNDS = ["progress", "tiles", "accuracy", "loss", "heat", "rounds", "clients", "time", "cost", "refusals"];
const KINDS = {
  begin: { take: () => store.begin(), parts: ["head", ...OF_ROUNDS] },
  run: { take: (run) => { store.run = run; }, parts: ["head", "progress", "heat", "clients"] },
  row: { take: (row) => store.add(row), parts: OF_ROUNDS },
  timeline: { take: ({ begins, entries }) => { if (begins) store.uploads.clear(); store.note(entries); }, parts: ["progress", "time"] },
  end: { take: () => served(), parts: [] },
};

// The program that served the page has ended, and has sent everything. A run that has not may go on at the same address.
function served() {
  const isOver = store.run.state === "ended";
  if (isOver) source.close();
  connection(isOver ? "The program that served this page has ended; what it sent stays. mindfl watch shows the folder again." : STOPPED);
}

const changed = new Set();
const inbox = new Inbox(({ type, data }) => {
  KINDS[type].take(JSON.parse(data));
  for (const name of KINDS[type].parts) changed.add(name);
}, () => {
  document.title = titleOf(store);
  parts.need(...changed);
  changed.clear();
});

const connection = (text) => { byId("connection").textContent = text; };
const source = new EventSource("events?kind=run");
source.addEventListener("other", () => location.reload()); // the folder has another page now
for (const kind of Object.keys(KINDS)) source.addEventListener(kind, (event) => inbox.push(event));
source.addEventListener("open", () => connection(""));
source.addEventListener("error", () => connection(
  source.readyState === EventSource.CLOSED ? "No connection: load the page again." : store.run.state === "stopped" ? STOPPED : "No connection: trying again.",
));

byId("heat-mode").addEventListener("change", (event) => { heat.mode = event.target.value; parts.need("heat"); });
byId("heat-order").addEventListener("change", (event) => { heat.order = event.target.value; parts.need("heat"); });
byId("cost-mode").addEventListener("change", (event) => { showCost(event.target.value); parts.need("cost"); });
byId("time-round").addEventListener("change", () => parts.need("time"));
byId("time-details").addEventListener("toggle", () => parts.need("time"));
parts.need("head", ...OF_ROUNDS);
