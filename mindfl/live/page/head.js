// The head of a run's page: name, state, progress, the latest values, settings.

import { byId, bytes, counted, decimals, element, isNumber, put, seconds, whole } from "./words.js";

export const STATES = { missing: "the folder is gone", waiting: "waiting for a run", training: "training", stopped: "stopped before its end", ended: "ended" };

export function drawHead({ run }) {
  put(byId("name"), run.name || "mindfl");
  put(byId("title"), run.title || "");
  byId("back").hidden = !run.of_sweep;
  const state = byId("state");
  put(state, STATES[run.state] || "connecting");
  state.className = `state ${run.state || ""}`;
  const problems = byId("problems");
  problems.hidden = !run.problems?.length;
  put(problems, (run.problems || []).join("; "));
  byId("facts").replaceChildren(...(run.facts || []).map(([name, value]) => {
    const group = element("div");
    group.append(element("dt", name), element("dd", value));
    return group;
  }));
}

const latestUploads = (store) => [...store.uploads.values()].at(-1)?.at(-1);

export function drawProgress(store) {
  const { run, rounds: rows } = store, done = rows.at(-1)?.iteration || 0, latest = latestUploads(store);
  const running = run.state === "training" && latest && latest.iteration > done ? latest : null;
  byId("rounds-done").max = Math.max(store.asked, done, 1);
  byId("rounds-done").value = done + (running ? running.uploads / Math.max(running.clients, 1) : 0);
  const words = [store.asked ? `round ${whole(done)} of ${whole(store.asked)}` : counted(done, "round")];
  if (running) words.push(`in round ${running.iteration}: ${whole(running.uploads)} of ${counted(running.clients, "client")}`);
  if (run.stopped) words.push(`ended by ${run.stopped}`);
  words.push(seconds(store.sums.seconds));
  put(byId("rounds-text"), words.join(" · "));
}

export const titleOf = ({ run, rounds: rows }) => (rows.length ? `${run.name}: round ${rows.at(-1).iteration}` : run.name || "mindfl");

function tilesOf(store) {
  const measured = store.last("avg"), last = store.rounds.at(-1), { best } = store;
  const after = measured ? `after round ${measured.iteration}` : "not evaluated yet";
  const tiles = ["avg", "top5", "low5"].filter((name) => name === "avg" || store.last(name)).map((name) =>
    [name.toUpperCase(), measured?.[name], decimals(measured?.[name]), name === "avg" && best ? `best ${decimals(best.avg)} in round ${best.iteration}` : after]);
  tiles.push(["loss", last?.loss, decimals(last?.loss), last ? `round ${last.iteration}` : ""]);
  const { bytes_down: down, bytes_up: up } = store.sums;
  if (store.last("bytes_up")) tiles.push(["bytes", down + up, bytes(down + up), `${bytes(down)} down, ${bytes(up)} up`]);
  const private_ = store.last("epsilon");
  if (private_) tiles.push(["epsilon", private_.epsilon, decimals(private_.epsilon), "spent so far"]);
  const refused = [...store.refusals.values()].reduce((sum, each) => sum + each.count, 0);
  tiles.push(["refusals", refused, whole(refused), counted(store.failed.length, "failed round")]);
  if (isNumber(last?.steps_per_s)) tiles.push(["speed", last.steps_per_s, whole(Math.round(last.steps_per_s)), "steps per second"]);
  return tiles;
}

function newTile(name) {
  const made = element("div", "", { class: "tile", "data-name": name });
  made.append(element("div", name, { class: "tile-name" }), element("div", "", { class: "tile-value" }), element("div", "", { class: "tile-note" }));
  return made;
}

export function drawTiles(store) {
  const place = byId("tiles"), tiles = tilesOf(store), names = tiles.map(([name]) => name);
  if ([...place.children].map((each) => each.dataset.name).join() !== names.join()) place.replaceChildren(...names.map(newTile));
  tiles.forEach(([, value, text, note], at) => {
    const [, shown, noted] = place.children[at].children;
    put(shown, text);
    if (isNumber(value)) shown.dataset.value = String(value);
    else delete shown.dataset.value;
    put(noted, note);
    noted.title = note;
  });
}
