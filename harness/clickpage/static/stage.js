// One variant's canvas: the picture, its answer, and what its parts did.

import { outline, tint, unpack } from "./masks.js";

export const COLOURS = { "DPE box": "#0072B2", "DLU box": "#CC79A7", "Boundary tokens": "#E69F00" };
export const CELLS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999"];
const OTHERS = ["#56B4E9", "#F0E442", "#009E73", "#D55E00"];
const TINT = [86, 180, 233];
const POSITIVE = "#00704f", NEGATIVE = "#b34700", TRUTH = "#F0E442";

export const colourOf = (name) => COLOURS[name] || OTHERS[[...name].reduce((sum, c) => sum + c.codePointAt(0), 0) % OTHERS.length];

export class Stage {
  constructor(view, canvas) {
    this.view = view;
    this.canvas = canvas;
    this.clear();
  }

  clear() {
    this.mask = null;
    this.tinted = null;
    this.path = null;
    this.overlays = [];
  }

  set(answer) {
    this.clear();
    this.overlays = answer.overlays;
    if (!answer.mask) return;
    this.mask = unpack(answer.mask);
    this.tinted = tint(this.mask, TINT);
    this.path = outline(this.mask);
  }

  get width() {
    return this.canvas.clientWidth || 1;
  }

  draw() {
    const { view, canvas, width } = this;
    const height = Math.max(1, Math.round((width * view.shown[0]) / view.shown[1]));
    const dots = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * dots) || canvas.height !== Math.round(height * dots)) {
      canvas.width = Math.round(width * dots);
      canvas.height = Math.round(height * dots);
    }
    canvas.classList.toggle("zoomed", view.zoom > 1);
    const g = canvas.getContext("2d");
    g.setTransform(dots, 0, 0, dots, 0, 0);
    g.clearRect(0, 0, width, height);
    if (!view.image) return;
    const { scale, left, top } = view.place(width);
    const pen = (pixels) => pixels / scale; // a width on the screen as one of the picture
    g.translate(left, top);
    g.scale(scale, scale);
    g.imageSmoothingEnabled = scale * dots < 2;
    g.drawImage(view.image, 0, 0, view.shown[1], view.shown[0]);
    g.imageSmoothingEnabled = false;
    if (this.tinted && view.opacity > 0) {
      g.globalAlpha = view.opacity;
      g.drawImage(this.tinted, this.mask.left, this.mask.top);
      g.globalAlpha = 1;
    }
    const line = (path, colour, pixels, dash = []) => {
      g.strokeStyle = colour;
      g.lineWidth = pen(pixels);
      g.setLineDash(dash.map(pen));
      g.stroke(path);
      g.setLineDash([]);
    };
    if (this.path && view.outline) {
      line(this.path, "rgba(0, 0, 0, .6)", 3.5);
      line(this.path, "#ffffff", 1.6);
    }
    if (view.truth) {
      line(view.truth, "rgba(0, 0, 0, .6)", 3);
      line(view.truth, TRUTH, 1.8, [5, 3]);
    }
    this.#parts(g, line, pen);
    this.#clicks(g, pen);
    this.#crosshair(g, pen);
  }

  #parts(g, line, pen) {
    const [down, across] = [this.view.shown[0] / this.view.size[0], this.view.shown[1] / this.view.size[1]];
    for (const part of this.overlays) {
      if (!this.view.layers.has(part.name)) continue;
      if (part.box) {
        // Inside the picture, and apart where two boxes are one.
        const second = part.name.startsWith("DLU"), inset = pen(second ? 7 : 2.5);
        const [x0, x1] = [part.box[0], part.box[2]].map((x) => Math.min(Math.max(x * across, 0), this.view.shown[1]));
        const [y0, y1] = [part.box[1], part.box[3]].map((y) => Math.min(Math.max(y * down, 0), this.view.shown[0]));
        const path = new Path2D();
        path.rect(x0 + inset, y0 + inset, Math.max(x1 - x0 - 2 * inset, pen(1)), Math.max(y1 - y0 - 2 * inset, pen(1)));
        line(path, "#ffffff", 5);
        line(path, colourOf(part.name), 3, second ? [9, 5] : []);
      } else {
        const several = part.cells.some((run) => run[3] !== part.cells[0][3]);
        g.globalAlpha = 0.55;
        for (const [row, first, length, value] of part.cells) {
          g.fillStyle = several ? CELLS[value % CELLS.length] : colourOf(part.name);
          g.fillRect(first * part.side * across, row * part.side * down, length * part.side * across, part.side * down);
        }
        g.globalAlpha = 1;
      }
    }
  }

  #clicks(g, pen) {
    const [down, across] = [this.view.shown[0] / this.view.size[0], this.view.shown[1] / this.view.size[1]];
    this.view.clicks.forEach(([row, column, positive], i) => {
      const x = (column + 0.5) * across, y = (row + 0.5) * down, r = pen(9);
      g.beginPath();
      if (positive) g.arc(x, y, r, 0, 2 * Math.PI);
      else g.rect(x - r, y - r, 2 * r, 2 * r);
      g.fillStyle = positive ? POSITIVE : NEGATIVE;
      g.fill();
      g.strokeStyle = i + 1 === this.view.clicks.length ? "#ffd92f" : "#ffffff";
      g.lineWidth = pen(2);
      g.stroke();
      g.fillStyle = "#ffffff";
      g.font = `700 ${pen(11)}px sans-serif`;
      g.textAlign = "center";
      g.textBaseline = "middle";
      g.fillText(String(i + 1), x, y);
    });
  }

  #crosshair(g, pen) {
    if (!this.view.crosshair) return;
    const [row, column] = this.view.crosshair;
    const x = ((column + 0.5) * this.view.shown[1]) / this.view.size[1];
    const y = ((row + 0.5) * this.view.shown[0]) / this.view.size[0];
    for (const [colour, pixels] of [["rgba(0, 0, 0, .7)", 4], ["#ffffff", 1.5]]) {
      g.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        g.moveTo(x + dx * pen(5), y + dy * pen(5));
        g.lineTo(x + dx * pen(18), y + dy * pen(18));
      }
      g.strokeStyle = colour;
      g.lineWidth = pen(pixels);
      g.stroke();
    }
  }
}
