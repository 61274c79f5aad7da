// The table of samples: sorted by a click on a heading, searched as one types, laid out as far as it is seen.
(() => {
  const table = document.querySelector("#table");
  if (!table) return;
  const body = table.tBodies[0];
  const rest = document.querySelector("#rest");
  const end = document.querySelector("#end");
  const rows = [...body.rows, ...(rest ? rest.content.querySelectorAll("tr") : [])];
  const step = Math.max(300, body.rows.length);
  const search = document.querySelector("#filter");
  const only = document.querySelector("#only");
  const shown = document.querySelector("#shown");
  const texts = new Map(); // filled at the first search: reading thousands of rows takes a moment
  let matching = rows;

  function show() {
    body.replaceChildren(...matching.slice(0, step));
    tell();
  }

  function more() {
    body.append(...matching.slice(body.rows.length, body.rows.length + step));
    tell();
  }

  function tell() {
    const left = matching.length - body.rows.length;
    if (end) end.textContent = left > 0 ? `${left} more follow` : "";
    shown.textContent = matching.length === rows.length ? "" : `${matching.length} of ${rows.length}`;
  }

  function filter() {
    const wanted = search.value.trim().toLowerCase();
    if (wanted && !texts.size) for (const row of rows) texts.set(row, row.textContent.toLowerCase());
    matching = rows.filter(
      (row) => (!wanted || texts.get(row).includes(wanted)) && (!only.checked || "look" in row.dataset),
    );
    show();
  }

  function value(row, column) {
    const cell = row.cells[column];
    const text = cell.dataset.sort ?? cell.textContent.trim();
    const number = Number(text);
    return text !== "" && Number.isFinite(number) ? number : text;
  }

  function sort(heading) {
    const column = heading.cellIndex;
    const rising = heading.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const sign = rising ? 1 : -1;
    const keys = new Map(rows.map((row) => [row, value(row, column)]));
    rows.sort((a, b) => {
      const [x, y] = [keys.get(a), keys.get(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      if (typeof x === "number" && typeof y === "number") return sign * (x - y);
      return sign * String(x).localeCompare(String(y), "en", { numeric: true });
    });
    filter();
  }

  if (end) {
    tell();
    new IntersectionObserver((seen) => seen.some((entry) => entry.isIntersecting) && more()).observe(end);
  }
  search.addEventListener("input", filter);
  only.addEventListener("change", filter);
  table.tHead.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) sort(button.closest("th"));
  });
})();
