"use strict";

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

/** An element with text; text from the data never becomes markup. */
function make(tag, text = "", attributes = {}) {
  const element = document.createElement(tag);
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function startTheme() {
  const button = $("#theme");
  const themes = ["auto", "light", "dark"];
  const stored = (value) => {
    try {
      if (value === undefined) return localStorage.getItem("theme");
      localStorage.setItem("theme", value);
    } catch { /* storage may be forbidden, as for files in some browsers */ }
    return null;
  };
  const show = (theme) => {
    document.documentElement.dataset.theme = theme;
    $("span", button).textContent = theme;
  };
  let theme = themes.includes(stored()) ? stored() : "auto";
  show(theme);
  button.hidden = false;
  button.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    stored(theme);
    show(theme);
  });
}

/* Sorting: better values first, then worse first, then the paper's order again. */

const view = () => $("main").dataset.view || "both";

/** The number a row is sorted by, and its group: measured and printed values are never in one ranking. */
function sortKey(row, column) {
  const cell = row.cells[column];
  const measured = "m" in cell.dataset ? Number(cell.dataset.m) : null;
  const printed = "p" in cell.dataset ? Number(cell.dataset.p) : null;
  if (view() !== "published" && measured !== null) return [0, measured];
  if (view() !== "measured" && printed !== null) return [1, printed];
  return [2, 0];
}

function sortTable(table, header) {
  const headers = $$("thead th", table);
  const column = headers.indexOf(header);
  const direction = header.getAttribute("aria-sort");
  const rows = $$("tbody tr", table);
  const place = (row) => Number(row.dataset.place);
  if (direction === "none") rows.sort((a, b) => place(a) - place(b));
  else {
    const sign = direction === "descending" ? -1 : 1;
    rows.sort((a, b) => {
      if (column === 0) return sign * a.dataset.method.localeCompare(b.dataset.method) || place(a) - place(b);
      const [groupA, valueA] = sortKey(a, column);
      const [groupB, valueB] = sortKey(b, column);
      return groupA - groupB || sign * (valueA - valueB) || place(a) - place(b);
    });
  }
  $("tbody", table).append(...rows);
}

function startSorting() {
  for (const table of $$("main > .block table")) {
    const headers = $$("thead th", table);
    for (const header of headers) {
      const button = $("button", header);
      if (!button) continue;
      button.addEventListener("click", () => {
        const first = header.dataset.better === "higher" ? "descending" : "ascending";
        const second = first === "ascending" ? "descending" : "ascending";
        const next = { none: first, [first]: second, [second]: "none" }[header.getAttribute("aria-sort")];
        headers.forEach((other) => other.hasAttribute("aria-sort") && other.setAttribute("aria-sort", "none"));
        header.setAttribute("aria-sort", next);
        sortTable(table, header);
      });
    }
  }
}

function resort() {
  for (const header of $$('th[aria-sort="ascending"], th[aria-sort="descending"]')) sortTable(header.closest("table"), header);
}

/* Filters */

const value = (id) => ($(id) ? $(id).value : "");

function filterCards() {
  const words = value("#find").toLowerCase().split(/\s+/).filter(Boolean);
  const [paper, dataset, task] = ["#paper", "#dataset", "#task"].map(value);
  const cards = $$(".card");
  for (const card of cards) {
    const { words: text, paper: of, datasets, task: does, measured } = card.dataset;
    card.hidden = !(
      words.every((word) => text.includes(word)) && (!paper || of === paper) && (!task || does === task) &&
      (!dataset || JSON.parse(datasets).includes(dataset)) && (!$("#measured").checked || measured !== "0")
    );
  }
  $$(".paper").forEach((section) => { section.hidden = !$(".card:not([hidden])", section); });
  const shown = cards.filter((card) => !card.hidden).length;
  $("#count").textContent = shown === cards.length ? `${shown} tables and figures` : `${shown} of ${cards.length} tables and figures`;
}

function filterRows() {
  const dataset = value("#dataset");
  const part = value("#find").trim().toLowerCase();
  let shown = 0;
  $$("figure[data-dataset]").forEach((figure) => { figure.hidden = Boolean(dataset) && figure.dataset.dataset !== dataset; });
  for (const section of $$("main > .block")) {
    section.hidden = Boolean(dataset) && section.dataset.dataset !== dataset;
    for (const row of $$("tbody tr", section)) {
      const fits = row.dataset.method.includes(part);
      const inView = view() === "both" || !("measured" in row.dataset) ||
        (view() === "measured" ? row.dataset.measured === "1" : row.dataset.first === "1" && Boolean($("[data-p]", row)));
      row.hidden = !(fits && inView);
      shown += !row.hidden && !section.hidden;
    }
  }
  $("#count").textContent = shown === 1 ? "1 row" : `${shown} rows`;
}

function startFilters() {
  const bar = $(".filters");
  if (!bar) return;
  const apply = $(".card") ? filterCards : filterRows;
  bar.hidden = false;
  bar.addEventListener("input", apply);
  for (const button of $$("[data-view]", bar)) {
    button.addEventListener("click", () => {
      $("main").dataset.view = button.dataset.view;
      $$("[data-view]", bar).forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
      apply();
      resort();
    });
  }
  apply();
}

/* The record panel */

const read = (id) => JSON.parse($(`#${id}`)?.textContent || "{}");
const looksLikeHash = (text) => /^[0-9a-f]{16,64}$/.test(text);

/** Nested values as label and text: a.b.c, in the order of the record. */
function* flat(value, name = "") {
  if (value !== null && typeof value === "object") {
    const entries = Object.entries(value);
    if (!entries.length && name) yield [name, "none"];
    for (const [key, inner] of entries) yield* flat(inner, name ? `${name} · ${key}` : key);
  } else yield [name, value === null || value === "" ? "–" : String(value)];
}

function facts(pairs) {
  const list = make("dl", "", { class: "facts" });
  for (const [name, text] of pairs) list.append(make("dt", name), make("dd", text, looksLikeHash(text) ? { class: "hash" } : {}));
  return list;
}

function cellTable(cells) {
  const table = make("table");
  const head = make("tr");
  ["Column", "Measured", "Printed", "Difference", "Status", "Note"].forEach((name, i) =>
    head.append(make("th", name, { scope: "col", ...(i > 3 ? { class: "text" } : {}) })));
  const body = make("tbody");
  for (const cell of cells) {
    const row = make("tr");
    row.append(make("th", cell.column, { scope: "row" }));
    row.append(make("td", cell.value === null ? "–" : String(cell.value)), make("td", cell.printed || "–"));
    row.append(make("td", cell.difference === null ? "–" : (cell.difference < 0 ? "" : "+") + cell.difference.toPrecision(3)));
    row.append(make("td", cell.status, { class: "text" }));
    const mark = cell.mark ? `${cell.mark} in the paper` : "";
    row.append(make("td", [mark, cell.note].filter(Boolean).join("; "), { class: "note-cell" }));
    body.append(row);
  }
  const top = make("thead");
  top.append(head);
  table.append(top, body);
  const scroll = make("div", "", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Values" });
  scroll.append(table);
  return scroll;
}

function startPanel() {
  const panel = $("#panel");
  if (!panel) return;
  const rows = read("rows");
  const records = read("records");
  const open = (row) => {
    $("#panel-title").textContent = row.method;
    const body = $("#panel-body");
    body.replaceChildren(make("p", row.where, { class: "eyebrow" }));
    if (row.reason) body.append(make("p", row.reason));
    const found = records[row.record];
    if (found) {
      const actions = make("p", "", { class: "actions" });
      actions.append(make("a", "Record (JSON)", { href: found.files.json, download: "" }));
      if (found.files.csv) actions.append(make("a", "Per-image scores (CSV)", { href: found.files.csv, download: "" }));
      body.append(actions);
    }
    body.append(make("h3", "Values"), cellTable(row.cells));
    if (found) {
      const { scores, missing, failures, metrics, provenance, ...rest } = found.record;
      body.append(make("h3", "Record"), facts(flat(rest)));
      body.append(make("h3", "Provenance"), facts(flat(provenance)));
      body.append(make("h3", "Metrics, missing values and failures"), facts([
        ["metrics", metrics.join(", ")], ...flat(missing, "missing"),
        ...(failures.length ? failures.map(({ image, reason }) => [image, reason]) : [["failures", "none"]]),
      ]));
    }
    panel.showModal();
    body.scrollTop = panel.scrollTop = 0;
  };
  for (const button of $$("[data-row]")) button.addEventListener("click", () => open(rows[button.dataset.row]));
  $("[data-close]", panel).addEventListener("click", () => panel.close());
  panel.addEventListener("click", (event) => { if (event.target === panel) panel.close(); });
}

startTheme();
startSorting();
startFilters();
startPanel();
