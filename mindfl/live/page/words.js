// Numbers and times in words.

export const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
export const decimals = (value, digits = 4) => (isNumber(value) ? value.toFixed(digits) : "–");
export const whole = (value) => (isNumber(value) ? value.toLocaleString("en") : "–");
export const counted = (number, noun) => `${whole(number)} ${noun}${number === 1 ? "" : "s"}`;

export function bytes(value) {
  if (!isNumber(value)) return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) { value /= 1000; unit += 1; }
  return `${unit ? value.toPrecision(3) : value} ${units[unit]}`;
}

export function seconds(value) {
  if (!isNumber(value)) return "–";
  if (value < 60) return `${value.toFixed(value < 10 ? 2 : 1)} s`;
  const minutes = Math.floor(value / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(value % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

// An element with text; texts come from files, so they never become markup.
export function element(name, text = "", attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// Write a text, where it is another one: what stays the same needs no new layout.
export function put(place, text) {
  if (place.textContent !== text) place.textContent = text;
}

export const byId = (id) => document.getElementById(id);
