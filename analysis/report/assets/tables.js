// Tables sort by their headings, and show a page of rows at a time.
const PAGE = 50;

for (const table of all("table:not(.heat)")) {
  const body = table.tBodies[0], rows = [...body.rows];
  let shown = PAGE;
  const more = element("button", "more");
  const show = () => {
    rows.forEach((row, i) => { row.hidden = i >= shown; });
    more.hidden = rows.length <= shown;
    more.textContent = `${rows.length - shown} more rows`;
  };
  more.addEventListener("click", () => { shown += 500; show(); });
  table.after(more);
  show();
  all("th", table).forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    all("th", table).forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = row => row.cells[column].dataset.value ?? "";
    const unknown = x => x === "" || x === "–";
    // What is not known stays below, whichever way the table is sorted.
    rows.sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (unknown(x) || unknown(y)) return unknown(x) - unknown(y);
      const order = Number.isNaN(Number(x)) || Number.isNaN(Number(y)) ? x.localeCompare(y, "en", { numeric: true }) : Number(x) - Number(y);
      return down ? -order : order;
    });
    body.append(...rows);
    show();
  }));
}
