// The log of a client, in a dialog.

import { byId, bytes } from "./words.js";

let shown = null, named = "";

export async function openLog(client, name = "") {
  [shown, named] = [client, name];
  const dialog = byId("log"), place = byId("log-text");
  byId("log-heading").textContent = `Log of client ${client}, ${name}`;
  place.textContent = "";
  byId("log-size").textContent = "reading";
  if (!dialog.open) dialog.showModal();
  try {
    const answer = await fetch(`logs/${client}`);
    if (!answer.ok) throw new Error(await answer.text());
    const { text, bytes: size } = await answer.json();
    if (shown !== client) return;
    const whole = new TextEncoder().encode(text).length >= size;
    byId("log-size").textContent = whole ? `client_${client}/client.log, ${bytes(size)}` : `The end of client_${client}/client.log, which has ${bytes(size)}`;
    place.textContent = text;
    place.scrollTop = place.scrollHeight;
  } catch (error) {
    byId("log-size").textContent = error instanceof TypeError ? "The server of this page has ended." : error.message;
  }
}

byId("log-close").addEventListener("click", () => byId("log").close());
byId("log-again").addEventListener("click", () => openLog(shown, named));
