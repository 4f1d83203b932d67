// The page: what the server says becomes what is seen, and what a person does becomes an action.

import { hands } from "./hands.js";
import { holds, outline, unpack } from "./masks.js";
import { CELLS, Stage, colourOf } from "./stage.js";
import { History } from "./history.js";
import { View } from "./view.js";
import { Wire } from "./wire.js";

const $ = (id) => document.getElementById(id);
const make = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  Object.assign(made, attributes);
  made.append(...children);
  return made;
};

const view = new View();
const history = new History($("history"));
const panes = []; // {section, stage, numbers, switches}
let state = null;
let began = null; // when the last click was made, for the time until it is seen
let drawing = false;

const draw = () => {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    for (const pane of panes) pane.stage.draw();
    $("zoom").textContent = `${Math.round(view.zoom * 100)} %`;
  });
};
const say = (text) => { $("said").textContent = text; };
const device = (event) => (event && ["touch", "pen"].includes(event.pointerType) ? "mobile" : "pc");
const per = (value) => `${(100 * value).toFixed(1)} %`;
const ms = (value) => (typeof value === "number" ? `${value.toFixed(value < 100 ? 1 : 0)} ms` : "–");

// What a person wants.

const wish = {
  draw,
  click(row, column, negative, event) {
    const positive = !negative && $("positive").checked;
    began = event.timeStamp;
    wire.send("click", { y: row, x: column, positive, device: device(event) });
  },
  moved(stage) {
    const [row, column] = view.crosshair;
    say(`Row ${row}, column ${column}${stage.mask ? (holds(stage.mask, ...shownPlace(row, column)) ? ", in the mask" : ", outside the mask") : ""}`);
    draw();
  },
  key(name) {
    const known = { z: "undo", y: "redo", "+": "closer", "=": "closer", "-": "further", 0: "whole", t: "truth", PageDown: "next", PageUp: "previous" };
    const control = known[name] && $(known[name]);
    if (control && !control.disabled) control.click();
    return Boolean(control);
  },
};
const shownPlace = (row, column) => [
  Math.floor((row * view.shown[0]) / view.size[0]), Math.floor((column * view.shown[1]) / view.size[1])];

const act = (id, action, body) => $(id).addEventListener("click", (event) => {
  began = null; // only the time of clicks is shown
  wire.send(action, body(event));
});
act("undo", "undo", (event) => ({ everything: false, device: device(event) }));
act("clear", "undo", (event) => ({ everything: true, device: device(event) }));
act("redo", "redo", (event) => ({ device: device(event) }));
act("next", "open", () => ({ index: state.index + 1 }));
act("previous", "open", () => ({ index: state.index - 1 }));
$("closer").addEventListener("click", () => { view.scaleBy(1.5); draw(); });
$("further").addEventListener("click", () => { view.scaleBy(1 / 1.5); draw(); });
$("whole").addEventListener("click", () => { view.whole(); draw(); });
$("opacity").addEventListener("input", () => { view.opacity = Number($("opacity").value) / 100; draw(); });
$("outline").addEventListener("change", () => { view.outline = $("outline").checked; draw(); });
$("truth").addEventListener("change", () => showTruth());
for (const form of document.forms) form.addEventListener("submit", (event) => event.preventDefault());
new ResizeObserver(draw).observe($("panes"));

async function showTruth() {
  view.truth = null;
  if ($("truth").checked && state && state.has_truth) {
    const index = state.index;
    const mask = await wire.truth();
    if (mask && index === state.index && $("truth").checked) view.truth = outline(unpack(mask));
  }
  draw();
}

// What the server says.

function addPane(number) {
  const canvas = make("canvas", { tabIndex: 0 });
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-roledescription", "image to click");
  const pane = {
    stage: new Stage(view, canvas), title: make("h2"), tag: make("span", { className: "tag" }),
    numbers: make("p", { className: "numbers" }), switches: make("div", { className: "switches" }),
  };
  pane.section = make("section", { className: "pane" }, make("div", { className: "head" }, pane.title, pane.tag),
    canvas, pane.numbers, pane.switches);
  pane.title.id = `variant-${number}`;
  pane.section.setAttribute("aria-labelledby", pane.title.id);
  hands(pane.stage, wish);
  $("panes").append(pane.section);
  panes.push(pane);
}

function showVariant(pane, variant, number) {
  const title = state.rules.study && state.variants.length === 1 ? "" : variant.title;
  pane.title.textContent = title || "Answer";
  pane.tag.textContent = variant.weights;
  pane.tag.className = `tag${variant.weights === "untrained" ? " warn" : ""}`;
  pane.stage.canvas.setAttribute("aria-label", `${state.name}, ${state.height} rows, ${state.width} columns, ${pane.title.textContent}. Arrow keys move the crosshair, Enter clicks.`);
  const known = JSON.stringify([variant.switches, state.rules.study]);
  if (pane.known === known) return;
  pane.known = known;
  pane.switches.replaceChildren(...(state.rules.study ? [] : variant.switches).map((one) => {
    const choice = make("select", {}, ...one.values.map((value) => make("option", { value, textContent: value, selected: value === one.value })));
    choice.setAttribute("aria-label", one.name);
    choice.addEventListener("change", async () => {
      began = null;
      await wire.send("switch", { variant: number, name: one.name, value: choice.value });
      choice.value = state.variants[number].switches.find((s) => s.name === one.name).value;
    });
    return make("label", {}, `${one.name} `, choice);
  }));
}

async function showPicture() {
  view.open([state.height, state.width], [state.shown_height, state.shown_width]);
  for (const pane of panes) {
    pane.stage.clear();
    // A tall picture fits into the window.
    pane.stage.canvas.style.maxWidth = `max(10rem, 80vh * ${state.shown_width || 1} / ${state.shown_height || 1})`;
  }
  $("truth").checked = false;
  if (state.trouble) { draw(); return; }
  const picture = new Image();
  const index = state.index;
  picture.src = `/image/${index}`;
  try {
    await picture.decode();
  } catch {
    return;
  }
  if (index === state.index) view.image = picture;
  draw();
}

function showState(next) {
  const opened = !state || state.index !== next.index || state.trouble !== next.trouble;
  state = next;
  view.clicks = state.finished ? [] : state.clicks;
  if (!panes.length) state.variants.forEach((_, number) => addPane(number));
  state.variants.forEach((variant, number) => showVariant(panes[number], variant, number));
  if (opened) showPicture();
  document.title = `${state.rules.title} – ${state.name}`;
  $("title").textContent = state.finished ? "Finished. Thank you." : state.rules.title;
  $("kicker").textContent = `${state.name} · ${state.user}`;
  $("instructions").textContent = state.rules.instructions;
  $("instructions").hidden = !state.rules.instructions;
  $("where").textContent = `${state.index + 1} of ${state.count}`;
  $("previous").hidden = state.rules.study;
  $("previous").disabled = state.index === 0;
  const unclicked = !state.clicks.length && !state.trouble;
  $("next").disabled = state.finished || (state.rules.study ? unclicked : state.index + 1 === state.count);
  $("next").textContent = state.rules.study && state.index + 1 === state.count ? "Finish" : "Next ›";
  $("undo").disabled = $("clear").disabled = !state.clicks.length || state.finished;
  $("redo").disabled = !state.undone || state.finished;
  $("truth-label").hidden = !state.has_truth;
  $("panes").hidden = state.finished;
  for (const pane of panes) pane.section.setAttribute("aria-busy", String(!state.trouble && !state.finished));
  history.show(state);
  if (state.trouble) trouble(state.trouble);
  draw();
}

function showAnswer(answer) {
  const pane = panes[answer.variant];
  pane.stage.set(answer);
  pane.section.setAttribute("aria-busy", "false");
  addLayers(answer.overlays);
  const count = state.clicks.length;
  const [iou, online] = [answer.ious[count - 1], answer.online_ms[count - 1]];
  const fact = (name, value) => make("span", {}, `${name} `, make("b", { textContent: value }));
  const facts = answer.error ? [make("span", { className: "trouble", textContent: answer.error })] : [
    ...(state.rules.iou && typeof iou === "number" ? [fact("IoU", per(iou))] : []),
    ...(count ? [fact("click", ms(online))] : []), fact("encode", ms(answer.encode_ms))];
  pane.numbers.replaceChildren(...facts);
  history.add(answer);
  if (answer.variant === 0 && count) {
    const [row, column, positive] = state.clicks[count - 1];
    say(`Click ${count}, ${positive ? "object" : "background"}, row ${row}, column ${column}.${typeof iou === "number" ? ` IoU ${per(iou)}.` : ""}`);
  } else if (answer.variant === 0) say("No click yet.");
  drawing = true; // at once, in the next frame: a click is waited for
  requestAnimationFrame(() => {
    drawing = false;
    for (const one of panes) one.stage.draw();
    if (began !== null && count && !answer.error) seen(pane, fact, began, count, online);
  });
}

// Time from the mouse to the screen: the frame that was just drawn is shown before the next task.
function seen(pane, fact, since, count, online) {
  const channel = new MessageChannel();
  channel.port1.onmessage = () => {
    const screen = performance.now() - since;
    Object.assign(pane.section.dataset, { screenMs: screen.toFixed(1), onlineMs: online, clicks: count });
    pane.numbers.append(fact("on screen after", ms(screen)));
  };
  channel.port2.postMessage(null);
}

function addLayers(overlays) {
  for (const { name, box, cells } of overlays) {
    if (document.querySelector(`#layers input[data-layer="${CSS.escape(name)}"]`)) continue;
    const input = make("input", { type: "checkbox" });
    input.dataset.layer = name;
    input.addEventListener("change", () => {
      if (input.checked) view.layers.add(name);
      else view.layers.delete(name);
      draw();
    });
    const swatch = make("span", { className: "swatch" });
    const several = cells && cells.some((run) => run[3] !== cells[0][3]);
    swatch.style.background = box || !several ? colourOf(name) : `linear-gradient(90deg, ${CELLS.join()})`;
    $("layers").append(make("label", {}, input, " ", swatch, ` ${name}`));
  }
}

function trouble(text) {
  $("trouble").textContent = text;
  $("trouble").hidden = !text;
  if (text) {
    for (const pane of panes) pane.section.setAttribute("aria-busy", "false");
  }
}

const wire = new Wire({ state: showState, answer: showAnswer, trouble });
wire.look();
