"use strict";
// Everything here is an addition: without it the tables, plots and pictures are complete.
(() => {
  const each = (selector, act, root = document) => root.querySelectorAll(selector).forEach(act);

  each("table.sortable", (table) => {
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    heads.forEach((head, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        heads.forEach((h) => h.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const key = (row) => row.cells[index].dataset.sort ?? "";
        const numeric = head.classList.contains("num");
        const body = table.tBodies[0];
        const rows = [...body.rows].sort((a, b) => {
          const x = key(a), y = key(b);
          if (x === "" || y === "") return (x === "") - (y === "");
          const order = numeric ? Number(x) - Number(y) : x.localeCompare(y, "en", { numeric: true });
          return up ? order : -order;
        });
        body.append(...rows);
      });
    });
  });

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
