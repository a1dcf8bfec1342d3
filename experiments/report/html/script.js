"use strict";
// Sorts and filters the tables of the page. Texts of the run are only ever written as text.

const make = (tag, about = {}, ...children) => {
  const element = document.createElement(tag);
  Object.assign(element, about);
  element.append(...children);
  return element;
};

// "> 0.9", "<=5": a comparison of numbers; null for any other text
const comparison = (text) => {
  const found = /^\s*(<=|>=|<|>|=)\s*([-+]?[0-9]*\.?[0-9]+(?:e[-+]?[0-9]+)?)\s*$/i.exec(text);
  if (!found) return null;
  const limit = parseFloat(found[2]);
  const tests = {
    "<": (x) => x < limit,
    ">": (x) => x > limit,
    "<=": (x) => x <= limit,
    ">=": (x) => x >= limit,
    "=": (x) => x === limit,
  };
  return (cell) => tests[found[1]](parseFloat(cell.textContent));
};

const contains = (text) => {
  const wanted = text.trim().toLowerCase();
  return (cell) => cell.textContent.toLowerCase().includes(wanted);
};

class DataTable {
  constructor(box) {
    this.box = box;
    this.title = box.querySelector("h3").textContent;
    this.body = box.querySelector("tbody");
    this.rows = [...this.body.rows];
    this.heads = [...box.querySelectorAll("th")];
    this.filters = new Map(); // index of a column -> test of a cell
    this.word = "";
    this.addSorting();
    if (this.rows.length > 3) this.addFilters();
  }

  addSorting() {
    this.heads.forEach((head, index) => {
      const button = make("button", { type: "button", textContent: head.textContent });
      button.addEventListener("click", () => this.sort(index));
      head.replaceChildren(button);
    });
  }

  // ascending, then descending, then as it was
  sort(index) {
    const now = this.heads[index].getAttribute("aria-sort");
    const next = { ascending: "descending", descending: null }[now];
    const order = next === undefined ? "ascending" : next;
    this.heads.forEach((head) => head.removeAttribute("aria-sort"));
    let sorted = this.rows;
    if (order) {
      this.heads[index].setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      sorted = [...this.rows].sort((a, b) => {
        const places = [a, b].map((row) => row.cells[index].dataset.place);
        if (places.includes(undefined)) {
          return (places[0] === undefined) - (places[1] === undefined);
        }
        return sign * (Number(places[0]) - Number(places[1]));
      });
    }
    this.body.append(...sorted);
  }

  addFilters() {
    const search = make("input", { type: "search", className: "search" });
    search.setAttribute("aria-label", `Filter ${this.title} by text`);
    search.placeholder = "Filter by text";
    search.addEventListener("input", () => {
      this.word = search.value;
      this.filter();
    });
    this.count = make("span", { className: "count" });
    this.count.setAttribute("role", "status");
    const columns = make("div", { className: "columns" });
    this.heads.forEach((head, index) => columns.append(this.columnFilter(head, index)));
    const details = make("details", {}, make("summary", { textContent: "By column" }), columns);
    const line = make("div", { className: "controls" }, search, details, this.count);
    this.box.querySelector(".wide").before(line);
    this.filter();
  }

  columnFilter(head, index) {
    const kind = head.dataset.kind;
    const input = make(kind === "choice" ? "select" : "input");
    if (kind === "choice") {
      const texts = new Set(this.rows.map((row) => row.cells[index].textContent));
      input.append(make("option", { value: "", textContent: "all" }));
      [...texts].forEach((text) => input.append(make("option", { value: text, textContent: text })));
    } else if (kind === "number") {
      input.placeholder = "> 0.9";
    }
    input.addEventListener("input", () => {
      this.filters.delete(index);
      if (input.value.trim() !== "") this.filters.set(index, this.test(kind, input.value));
      this.filter();
    });
    return make("label", {}, make("span", { textContent: head.textContent }), input);
  }

  test(kind, text) {
    if (kind === "choice") return (cell) => cell.textContent === text;
    return comparison(text) || contains(text);
  }

  filter() {
    const hasWord = contains(this.word);
    let shown = 0;
    for (const row of this.rows) {
      const cells = [...row.cells];
      let passes = this.word.trim() === "" || cells.some(hasWord);
      for (const [index, test] of this.filters) passes = passes && test(cells[index]);
      row.hidden = !passes;
      shown += passes;
    }
    const all = this.rows.length;
    this.count.textContent = shown === all ? `${all} rows` : `${shown} of ${all} rows`;
  }
}

document.querySelectorAll("div.table").forEach((box) => new DataTable(box));
window.addEventListener("beforeprint", () => {
  document.querySelectorAll("#origin details").forEach((details) => { details.open = true; });
});
