// Sorts a table by the column whose heading is pressed: numbers in descending order first, unknown values last.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th"), body = head.closest("table").tBodies[0];
    const up = head.getAttribute("aria-sort") === (head.dataset.kind === "text" ? null : "descending");
    const value = (row) => row.cells[head.cellIndex].dataset.value;
    const order = (a, b) => head.dataset.kind === "text" ? a.localeCompare(b) : a - b;
    const rows = [...body.rows].sort((first, second) => {
      const a = value(first), b = value(second);
      if (a === "" || b === "") return (a === "") - (b === "");
      return up ? order(a, b) : order(b, a);
    });
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    body.append(...rows);
  });
}
