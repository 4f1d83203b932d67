// The table of clicks: place, time since the click before, and each variant's IoU and time.

const cell = (name, text, scope) => {
  const made = document.createElement(name);
  made.textContent = text;
  if (scope) made.scope = scope;
  return made;
};

export class History {
  constructor(table) {
    this.head = table.tHead;
    this.body = table.tBodies[0];
  }

  show(state) {
    this.state = state;
    this.answers = state.variants.map(() => null);
    const titles = ["Click", "Row", "Column", "Seconds"];
    for (const { title } of state.variants) {
      const name = state.variants.length > 1 ? `${title} ` : "";
      if (state.rules.iou) titles.push(`${name}IoU`);
      titles.push(`${name}ms`);
    }
    const row = document.createElement("tr");
    row.append(...titles.map((title) => cell("th", title, "col")));
    this.head.replaceChildren(row);
    this.#fill();
  }

  add(answer) {
    this.answers[answer.variant] = answer;
    this.#fill();
  }

  #fill() {
    const { clicks, seconds, rules } = this.state;
    this.body.replaceChildren(...clicks.map(([y, x, positive], i) => {
      const row = document.createElement("tr");
      row.append(cell("th", `${i + 1} ${positive ? "object" : "background"}`, "row"));
      row.append(cell("td", y), cell("td", x), cell("td", seconds[i] === null ? "–" : seconds[i].toFixed(1)));
      for (const answer of this.answers) {
        const iou = answer && answer.ious[i], time = answer && answer.online_ms[i];
        if (rules.iou) row.append(cell("td", typeof iou === "number" ? `${(100 * iou).toFixed(1)} %` : "–"));
        row.append(cell("td", typeof time === "number" ? time.toFixed(1) : "–"));
      }
      return row;
    }));
  }
}
