// The board reads without this file; it adds sorting, filters and search.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  sortable(table, (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim());
}
const form = document.querySelector("form.filters");
if (form) {
  form.hidden = false;
  const rows = [...document.querySelectorAll("#all [data-row]")];
  const fields = [...form.querySelectorAll("select")];
  const search = form.elements.search;
  const output = form.querySelector("output");
  const apply = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const fits = fields.every((f) => !f.value || row.dataset[f.name] === f.value) && words.every((w) => text.includes(w));
      row.toggleAttribute("data-off", !fits);
      shown += fits;
    }
    output.textContent = `${shown} of ${rows.length}`;
    const state = new URLSearchParams();
    for (const f of [search, ...fields]) if (f.value) state.set(f.name, f.value);
    history.replaceState(null, "", state.size ? `#?${state}` : location.pathname + location.search);
  };
  if (location.hash.startsWith("#?")) {
    for (const [name, value] of new URLSearchParams(location.hash.slice(2))) {
      if (form.elements[name]) form.elements[name].value = value;
    }
    apply();
  }
  output.textContent = `${rows.length} of ${rows.length}`;
  if (location.hash.startsWith("#?")) apply();
  form.addEventListener("input", apply);
  form.addEventListener("reset", () => setTimeout(apply));
  form.addEventListener("submit", (event) => event.preventDefault());
}
