"use strict";
// Filters and sorts the list. Without scripts the page shows all images in the order of the run.
const table = document.getElementById("pictures");
if (table) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const articles = new Map([...document.querySelectorAll("article.picture")].map((a) => [a.dataset.number, a]));
  const search = document.getElementById("search");
  const kinds = [...document.querySelectorAll('input[name="kind"]')];
  const shown = document.getElementById("shown");

  const filter = () => {
    const wanted = search.value.trim().toLowerCase();
    const allowed = new Set(kinds.filter((box) => box.checked).map((box) => box.value));
    let count = 0;
    for (const row of rows) {
      const visible = allowed.has(row.dataset.kind) && row.dataset.name.toLowerCase().includes(wanted);
      row.hidden = !visible;
      articles.get(row.dataset.number).hidden = !visible;
      count += visible;
    }
    shown.textContent = `${count} of ${rows.length} shown`;
  };

  const sort = (header) => {
    const key = header.dataset.sort;
    const down = header.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const order = key === "probability"
      ? (a, b) => Number(a.dataset[key]) - Number(b.dataset[key])
      : (a, b) => a.dataset[key].localeCompare(b.dataset[key], undefined, { numeric: true });
    rows.sort((a, b) => (down ? order(b, a) : order(a, b)) || a.dataset.number - b.dataset.number);
    body.append(...rows);
  };

  for (const header of table.tHead.querySelectorAll("[data-sort]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = header.textContent;
    button.addEventListener("click", () => sort(header));
    header.replaceChildren(button);
  }
  search.addEventListener("input", filter);
  for (const box of kinds) box.addEventListener("change", filter);
  document.getElementById("tools").hidden = false;
  filter();
}
