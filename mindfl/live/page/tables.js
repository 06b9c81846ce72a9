// Tables in pages, so that thousands of rows cost nothing.

import { byId, element, isNumber } from "./words.js";

export class PagedTable {
  // columns: [{title, of: row -> value, shown: value -> text or element, number}]; rows() returns the rows of the whole table
  constructor(id, columns, rows, { size = 20, head = true, failed = () => false } = {}) {
    Object.assign(this, { columns, rows, size, failed, page: 0, body: byId(`${id}-rows`), pager: byId(`${id}-pager`) });
    this.head = head ? byId(`${id}-head`) : null;
    this.buttons = ["first", "back", "on"].map((name) => {
      const button = element("button", { first: "first", back: "back", on: "next" }[name], { type: "button" });
      button.addEventListener("click", () => this.turn({ first: -Infinity, back: -1, on: 1 }[name]));
      return button;
    });
    this.text = element("span");
    this.pager.append(this.text, ...this.buttons);
    this.set(columns);
  }

  set(columns) {
    this.columns = columns;
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
    const from = this.page * this.size, shown = rows.slice(from, from + this.size);
    this.text.textContent = rows.length ? `${from + 1} to ${from + shown.length} of ${rows.length.toLocaleString("en")}` : "none yet";
    this.buttons[0].disabled = this.buttons[1].disabled = this.page === 0;
    this.buttons[2].disabled = this.page === last;
    this.body.replaceChildren(...shown.map((row) => this.line(row)));
  }

  line(row) {
    const line = rowOf(this.columns.map(({ of, shown, number, heads, name }) => {
      const value = of(row), content = shown(value, row);
      const cell = element(heads ? "th" : "td", content instanceof Node ? "" : content, heads ? { scope: "row" } : {});
      if (content instanceof Node) cell.append(content);
      if (number) cell.classList.add("number");
      if (name) { cell.classList.add("name"); cell.title = content; }
      // what the file says, to the last digit
      if (isNumber(value)) cell.dataset.value = String(value);
      return cell;
    }));
    if (this.failed(row)) line.classList.add("failed");
    return line;
  }
}

export function rowOf(cells) {
  const row = element("tr");
  row.append(...cells);
  return row;
}
