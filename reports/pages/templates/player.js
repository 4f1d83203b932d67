(() => {
  const NS = "http://www.w3.org/2000/svg";
  const EXPERTS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999"];
  const svg = (name, attributes) => {
    const made = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const html = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    Object.assign(made, attributes);
    made.append(...children);
    return made;
  };

  let serial = 0;

  // One variant's picture and the sentence below it; `draw` shows a click with the layers that are chosen.
  const viewer = (host, data) => {
    // Marks keep their size on the screen: `unit` is about 6 screen pixels, a little more on a large picture.
    const screen = Math.min(host.clientWidth || 600, 704, data.width / data.height * 480);
    const unit = (data.width / screen) * Math.min(6.5, 4 + screen / 250);
    const picture = svg("svg", { viewBox: `0 0 ${data.width} ${data.height}`, role: "img", "aria-label": data.alt });
    picture.append(svg("image", { href: data.image, width: data.width, height: data.height }));
    const layers = {};
    for (const name of ["experts", "boundary", "missed", "extra", "mask", "truth", "boxes", "clicks"]) {
      layers[name] = svg("g", { class: `layer-${name}` });
      picture.append(layers[name]);
    }
    const has = (what) => data.steps.some((step) => step.trace && step.trace[what]);
    const last = data.steps.length;
    const told = html("output", {});
    told.setAttribute("aria-live", "polite");

    // Tokens come as one text a row, a digit each; runs of equal neighbours become one rectangle.
    const tokens = (rows, side, colour) => (rows || []).forEach((row, i) => {
      for (const run of row.matchAll(/(\d)\1*/g)) {
        // The network's input is padded beyond the picture; what lies there is cut off.
        const x = run.index * side, y = i * side;
        const width = Math.min(run[0].length * side, data.width - x), height = Math.min(side, data.height - y);
        if (width <= 0 || height <= 0) continue;
        layers[colour ? "boundary" : "experts"].append(svg("rect", { x, y, width, height, fill: colour || EXPERTS[Number(run[1])], "fill-opacity": 0.55 }));
      }
    });

    const draw = (index, on) => {
      const current = Math.min(index, last);
      const step = data.steps[current - 1];
      Object.values(layers).forEach((layer) => layer.replaceChildren());
      const line = (layer, d, colour, width, extra = {}) => d && !d.startsWith("data:") && layer.append(
        svg("path", { d, fill: "none", stroke: colour, "stroke-width": width * unit, "fill-rule": "evenodd", ...extra }));
      const area = (layer, d, colour, opacity) => {
        if (!d) return;
        if (!d.startsWith("data:")) {
          layer.append(svg("path", { d, fill: colour, "fill-opacity": opacity, "fill-rule": "evenodd" }));
          return;
        }
        // A mask of specks comes as a picture, white where it holds.
        const id = `bits-${serial += 1}`, whole = { width: data.width, height: data.height };
        const shape = svg("mask", { id, ...whole, x: 0, y: 0, maskUnits: "userSpaceOnUse" });
        shape.append(svg("image", { href: d, ...whole, preserveAspectRatio: "none" }));
        layer.append(shape, svg("rect", { ...whole, fill: colour, "fill-opacity": Math.max(opacity, 0.6), mask: `url(#${id})` }));
      };
      if (on("mask")) {
        area(layers.mask, step.mask, "#ffffff", 0.22);
        line(layers.mask, step.mask, "#000000", 0.65, { "stroke-opacity": 0.6 });
        line(layers.mask, step.mask, "#ffffff", 0.33);
      }
      if (on("truth")) line(layers.truth, data.truth, "#F0E442", 0.35, { "stroke-dasharray": `${unit} ${0.6 * unit}` });
      if (on("errors")) {
        area(layers.missed, step.missed, "#D55E00", 0.8);
        area(layers.extra, step.extra, "#56B4E9", 0.8);
      }
      const trace = step.trace || {};
      if (on("boundary")) tokens(trace.boundary, trace.side, "#E69F00");
      if (on("experts")) tokens(trace.experts, trace.side, null);
      if (on("boxes")) {
        const box = (corners, colour, dash, shrink) => corners && layers.boxes.append(svg("rect", {
          x: corners[0] + shrink, y: corners[1] + shrink, width: Math.max(1, Math.min(corners[2], data.width) - corners[0] - 2 * shrink),
          height: Math.max(1, Math.min(corners[3], data.height) - corners[1] - 2 * shrink), fill: "none", stroke: colour,
          "stroke-width": 0.6 * unit, "stroke-dasharray": dash }));
        box(trace.dpe, "#0072B2", "none", 0.3 * unit);
        box(trace.dlu, "#CC79A7", `${1.6 * unit} ${0.8 * unit}`, 0.9 * unit);
      }
      data.steps.slice(0, current).forEach((past, i) => {
        if (!past.click) return;
        const [x, y, positive] = past.click;
        const r = 1.7 * unit, fill = positive ? "#00704f" : "#b34700", newest = i + 1 === current;
        const look = { fill, stroke: newest ? "#ffd92f" : "#ffffff", "stroke-width": (newest ? 0.45 : 0.25) * unit };
        layers.clicks.append(positive ? svg("circle", { cx: x, cy: y, r, ...look })
          : svg("rect", { x: x - r, y: y - r, width: 2 * r, height: 2 * r, ...look }));
        const text = svg("text", { x, y, "text-anchor": "middle", "dominant-baseline": "central", fill: "#ffffff",
          "font-size": 2.1 * unit, "font-weight": 700, "font-family": "sans-serif" });
        text.textContent = i + 1;
        layers.clicks.append(text);
      });
      const sign = step.click ? (step.click[2] ? "on the object" : "on the background") : "none, the model ran again";
      const ended = index > last ? ", the episode ended here" : "";
      told.textContent = `Click ${current} of ${last} (${sign}): IoU ${step.iou === null ? "not defined" : `${step.iou.toFixed(1)} %`}${ended}`;
    };
    host.append(picture, told);
    const strip = host.parentElement.querySelector(".strip");
    if (strip) strip.replaceWith(html("details", {}, html("summary", { textContent: "As a strip of pictures" }), strip.cloneNode(true)));
    return { draw, has, last, told };
  };

  // All variants of a story: one slider and one set of layers.
  const build = (story) => {
    const hosts = [...story.querySelectorAll(".player")];
    const records = hosts.map((host) => JSON.parse(document.getElementById(host.dataset.episode).textContent));
    const viewers = hosts.map((host, i) => viewer(host, { ...records[i], image: records[i].image || records[0].image }));
    const has = (what) => viewers.some((one) => one.has(what));
    // What can be shown: key, name, shown at first, and the colours with what they mean.
    const choices = [
      ["mask", "Answer", true, [["#ffffff", ""]]], ["truth", "True outline", false, [["#F0E442", ""]]],
      ["errors", "Errors:", false, [["#D55E00", "missed"], ["#56B4E9", "too much"]]]];
    if (has("dpe") || has("dlu")) {
      const boxes = [["dpe", "#0072B2", "DPE, prompt embedded here"], ["dlu", "#CC79A7", "DLU, upsampled here"]];
      choices.push(["boxes", "Boxes:", false, boxes.filter(([key]) => has(key)).map((box) => box.slice(1))]);
    }
    if (has("boundary")) choices.push(["boundary", "Boundary tokens", false, [["#E69F00", "full attention"]]]);
    if (has("experts")) choices.push(["experts", "Experts", false, [[`linear-gradient(90deg, ${EXPERTS.join()})`, "a colour each"]]]);
    const toggles = {};
    const options = html("div", { className: "options" });
    for (const [key, text, on, colours] of choices) {
      toggles[key] = html("input", { type: "checkbox", checked: on });
      toggles[key].addEventListener("change", () => show(current));
      const meaning = colours.flatMap(([colour, word]) => {
        const swatch = html("span", { className: "swatch" });
        swatch.style.background = colour;
        return [" ", swatch, word];
      });
      options.append(html("label", {}, toggles[key], ` ${text}`, ...meaning));
    }
    const last = Math.max(...viewers.map((one) => one.last));
    const slider = html("input", { type: "range", min: 1, max: last, value: 1, step: 1 });
    slider.setAttribute("aria-label", viewers.length > 1 ? "Click, of all variants" : "Click");
    const back = html("button", { type: "button", textContent: "‹ Back" });
    const next = html("button", { type: "button", textContent: "Next ›" });
    let current = 1;
    const show = (index) => {
      current = Math.min(Math.max(index, 1), last);
      slider.value = current;
      slider.setAttribute("aria-valuetext", `click ${current} of ${last}`);
      back.disabled = current === 1;
      next.disabled = current === last;
      viewers.forEach((one) => one.draw(current, (key) => Boolean(toggles[key] && toggles[key].checked)));
    };

    slider.addEventListener("input", () => show(Number(slider.value)));
    back.addEventListener("click", () => show(current - 1));
    next.addEventListener("click", () => show(current + 1));
    // The arrow keys step wherever the focus is in the story; the slider has its own, and strips scroll by them.
    story.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step || event.target === slider || event.target.closest(".scroll") || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      show(current + step);
    });
    const controls = html("div", { className: "controls" }, back, slider, next);
    const together = story.querySelector(".together");
    if (together) together.append(controls, options);
    else {
      viewers[0].told.before(controls);
      hosts[0].append(options);
    }
    show(Math.min(3, last));
  };
  document.querySelectorAll(".story").forEach(build);
})();
