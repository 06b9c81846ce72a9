// Tables in pages, so that thousands of rows cost nothing. Lines stay, and so does the focus: only what changed is written.

import { byId, element, isNumber, put } from "./words.js";

export class PagedTable {
  // columns: [{title, of: row -> value, shown: value -> text or element, number, heads, name, wraps}]; rows() returns the rows
  // of the whole table, or an object with their number `length` and with `at(place)`
  constructor(id, columns, rows, { size = 20, head = true, failed = () => false } = {}) {
    Object.assign(this, { rows, size, failed, page: 0, lines: new Map(), body: byId(`${id}-rows`), pager: byId(`${id}-pager`) });
    this.head = head ? byId(`${id}-head`) : null;
    this.buttons = ["first", "back", "on"].map((name) => {
      const word = { first: "first", back: "back", on: "next" }[name];
      const button = element("button", word, { type: "button", "aria-label": `${word} page of ${id}` });
      button.addEventListener("click", () => this.turn({ first: -Infinity, back: -1, on: 1 }[name]));
      return button;
    });
    this.text = element("span");
    this.pager.append(this.text, ...this.buttons);
    this.set(columns);
  }

  set(columns) {
    this.columns = columns;
    this.lines.clear();
    this.body.replaceChildren();
    this.head?.replaceChildren(rowOf(columns.map(({ title, number }) => element("th", title, { scope: "col", ...(number ? { class: "number" } : {}) }))));
  }

  turn(pages) {
    this.page = Math.max(this.page + pages, 0);
    this.draw();
  }

  draw() {
    const rows = this.rows();
    const last = Math.max(Math.ceil(rows.length / this.size) - 1, 0);
    this.page = Math.min(this.page, last);
    const from = this.page * this.size, shown = [];
    for (let place = from; place < Math.min(from + this.size, rows.length); place += 1) shown.push(rows.at(place));
    put(this.text, rows.length ? `${from + 1} to ${from + shown.length} of ${rows.length.toLocaleString("en")}` : "none yet");
    this.buttons[0].disabled = this.buttons[1].disabled = this.page === 0;
    this.buttons[2].disabled = this.page === last;
    this.show(shown);
  }

  show(shown) {
    const before = this.lines;
    this.lines = new Map(shown.map((row) => [row, before.get(row) ?? this.line()]));
    for (const [row, line] of before) if (!this.lines.has(row)) line.remove();
    shown.forEach((row, place) => {
      const line = this.lines.get(row), there = this.body.children[place];
      if (there !== line) this.body.insertBefore(line, there ?? null);
      this.fill(line, row);
    });
  }

  line() {
    return rowOf(this.columns.map(({ number, heads, name, wraps }) => {
      const cell = element(heads ? "th" : "td", "", heads ? { scope: "row" } : {});
      if (number) cell.classList.add("number");
      if (name) cell.classList.add("name");
      if (wraps) cell.classList.add("wraps");
      return cell;
    }));
  }

  fill(line, row) {
    line.values ??= [];
    this.columns.forEach(({ of, shown, name }, place) => {
      const value = of(row), cell = line.children[place];
      if (place in line.values && Object.is(line.values[place], value)) return;
      line.values[place] = value;
      const content = shown(value, row);
      cell.replaceChildren(content);
      if (name) cell.title = content;
      // what the file says, to the last digit
      if (isNumber(value)) cell.dataset.value = String(value);
      else delete cell.dataset.value;
    });
    line.classList.toggle("failed", this.failed(row));
  }
}

export function rowOf(cells) {
  const row = element("tr");
  row.append(...cells);
  return row;
}
