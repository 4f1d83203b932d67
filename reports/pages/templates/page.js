"use strict";
// Everything here is an addition: without it the tables, plots and pictures are complete.
(() => {
  const each = (selector, act, root = document) => root.querySelectorAll(selector).forEach(act);

  each("table.sortable", (table) => sortable(table, (row, column) => row.cells[column].dataset.sort ?? ""));

  // How many columns lie out of view; the shadow at the edge needs no script.
  each(".table-block .scroll", (region) => {
    const hint = document.createElement("p");
    hint.className = "more";
    region.before(hint);
    const heads = [...region.querySelectorAll("thead tr:last-child th")];
    const update = () => {
      const edge = region.getBoundingClientRect().right - 1;
      const out = heads.filter((head) => head.getBoundingClientRect().right > edge + 1).length;
      hint.hidden = region.scrollWidth <= region.clientWidth;
      hint.textContent = out ? `${out} more column${out === 1 ? "" : "s"} to the right: scroll →` : "← scroll back for the first columns";
    };
    region.addEventListener("scroll", update, { passive: true });
    new ResizeObserver(update).observe(region);
    update();
  });

  const form = document.querySelector("form.filters");
  if (form) {
    form.hidden = false;
    form.addEventListener("submit", (event) => event.preventDefault());
    const choice = (id) => document.getElementById(id)?.value ?? "";
    const apply = () => {
      const dataset = choice("filter-dataset"), size = choice("filter-size");
      let shown = 0;
      each("[data-dataset], [data-size]", (item) => {
        const off = (dataset && item.dataset.dataset && item.dataset.dataset !== dataset)
          || (size && item.dataset.size && item.dataset.size !== size && item.dataset.size !== "all");
        item.toggleAttribute("data-off", Boolean(off));
        if (!off && item.tagName === "TR") shown += 1;
      });
      document.getElementById("filter-count").textContent = dataset || size ? `${shown} table rows shown` : "";
    };
    form.addEventListener("change", apply);
    apply();
  }
})();
