"use strict";

const json = (element) => JSON.parse(element.textContent);
const pause = () => new Promise((resolve) => setTimeout(resolve));

// Charts are drawn as they come near, the others one by one, with a pause for the reader after each.

const CONFIG = json(document.getElementById("chart-config"));
const waiting = new Set(document.querySelectorAll("figure"));
const nearby = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) begin(entry.target);
}, { rootMargin: "100%" });

function begin(figure) {
  nearby.unobserve(figure);
  return waiting.delete(figure) ? draw(figure) : Promise.resolve();
}

async function draw(figure) {
  const place = figure.querySelector(".chart");
  try {
    const spec = json(figure.querySelector("script"));
    const choices = figure.querySelector("script.choices");
    const chosen = choices ? json(choices) : [];
    const select = figure.querySelector("select");
    spec.datasets = unpacked(choices ? chosen[0].data : spec.datasets);
    const drawing = place.appendChild(document.createElement("div"));
    drawing.ariaHidden = "true"; // the message of its place describes all of its marks
    const options = { mode: "vega-lite", renderer: "svg", actions: false, ast: true, config: CONFIG };
    const { view } = await vegaEmbed(drawing, spec, options);
    const follow = () => show(figure, view, chosen[select.selectedIndex]);
    select?.addEventListener("change", follow);
    if (select?.selectedIndex) follow(); // picked before the chart came, or kept by the browser over a reload
  } catch (error) {
    place.textContent = "This chart could not be drawn; its numbers are in the tables.";
    console.error(error);
  }
}

function unpacked(datasets) {
  return Object.fromEntries(Object.entries(datasets).map(([name, data]) => [name, rows(data)]));
}

function rows(data) {
  if (Array.isArray(data)) return data;
  const [first, ...others] = Object.entries(data);
  return first[1].map((value, place) =>
    Object.fromEntries([[first[0], value], ...others.map(([name, values]) => [name, values[place]])]),
  );
}

function show(figure, view, choice) {
  for (const [name, data] of Object.entries(unpacked(choice.data))) view.data(name, data);
  view.resize().runAsync(); // its labels may need more room
  figure.querySelector(".chart").ariaLabel = choice.message;
  figure.querySelector("figcaption").textContent = choice.message;
}

async function drawTheRest() {
  for (const figure of waiting) {
    await begin(figure);
    await pause();
  }
}

for (const figure of waiting) nearby.observe(figure);
drawTheRest();

// The table of all cases: sorted by its headings, filtered by words and choices, copied as it is shown.

function tableTools(form) {
  const table = document.getElementById(form.dataset.table);
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  const numeric = new Set((table.dataset.numeric ?? "").split(" ").map(Number));
  const cases = [...body.rows].map((row) => {
    const cells = [...row.cells].map((cell) => cell.textContent);
    return { row, cells, words: cells.join("\n").toLowerCase() };
  });
  const search = form.querySelector("input");
  const choices = [...form.querySelectorAll("select")];
  const status = form.querySelector("output");

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/);
    let shown = 0;
    for (const { row, cells, words: text } of cases) {
      const fits =
        words.every((word) => text.includes(word)) &&
        choices.every((choice) => !choice.value || cells[choice.dataset.filter] === choice.value);
      row.hidden = !fits;
      shown += fits;
    }
    status.textContent = `${shown.toLocaleString("en")} of ${cases.length.toLocaleString("en")} cases`;
  }

  function sort(place) {
    const heading = headings[place];
    const descending = heading.ariaSort === "ascending";
    for (const other of headings) other.removeAttribute("aria-sort");
    heading.ariaSort = descending ? "descending" : "ascending";
    const key = numeric.has(place + 1) ? number : (text) => text || null;
    const keyed = cases.map((row) => ({ ...row, key: key(row.cells[place]) }));
    keyed.sort((a, b) => (a.key === null) - (b.key === null) || (descending ? -1 : 1) * compare(a.key, b.key));
    body.append(...keyed.map(({ row }) => row));
  }

  function csv() {
    const shown = [...body.rows].filter((row) => !row.hidden);
    const lines = shown.map((row) => [...row.cells].map((cell, place) => field(cell.textContent, numeric.has(place + 1))));
    return [headings.map((heading) => field(heading.textContent)), ...lines].map((line) => line.join(",")).join("\r\n");
  }

  search.addEventListener("input", filter);
  for (const choice of choices) choice.addEventListener("change", filter);
  headings.forEach((heading, place) => heading.firstElementChild.addEventListener("click", () => sort(place)));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.querySelector("button").addEventListener("click", () => copy(csv(), status));
  filter();
}

function compare(a, b) {
  return typeof a === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
}

function number(text) {
  const value = Number(text.replaceAll(",", "").replace("\u2212", "-"));
  return text && !Number.isNaN(value) ? value : null;
}

function field(text, isNumber) {
  if (isNumber) return number(text) ?? "";
  const guarded = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return `"${guarded.replaceAll('"', '""')}"`;
}

async function copy(text, status) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = Object.assign(document.createElement("textarea"), { value: text });
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    if (!copied) return void (status.textContent = "The browser refuses to copy.");
  }
  status.textContent = "Copied.";
}

for (const form of document.querySelectorAll("form[data-table]")) tableTools(form);

// The theme is the system's until a reader chooses.

const THEMES = ["automatic", "light", "dark"];
const theme = document.getElementById("theme");
theme.addEventListener("click", () => {
  const root = document.documentElement;
  const next = THEMES[(THEMES.indexOf(root.dataset.theme ?? "automatic") + 1) % THEMES.length];
  root.dataset.theme = next;
  theme.textContent = `Theme: ${next}`;
});
theme.hidden = false;

// A link to something that is folded away opens it, and a chart that was drawn while folded takes the width it then has.

function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  const inside = target.querySelector(":scope > details.fold");
  for (let part = inside ?? target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  target.scrollIntoView();
}

addEventListener("hashchange", reveal);
reveal();
document.querySelector("nav").addEventListener("click", (event) => {
  if (event.target.hash === location.hash) reveal(); // the address stays, so no event tells
});
let fitting = 0;
document.addEventListener("toggle", () => { // once for all that are opened together
  cancelAnimationFrame(fitting);
  fitting = requestAnimationFrame(() => dispatchEvent(new Event("resize")));
}, true); // this event does not bubble

// The contents mark the section that is being read.

const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
const reading = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) links.get(target.id).ariaCurrent = "true";
    else links.get(target.id).removeAttribute("aria-current");
  }
}, { rootMargin: "-20% 0px -80%" });
for (const section of document.querySelectorAll("main > section")) reading.observe(section);

addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
  for (const figure of waiting) begin(figure);
});
