// What all panes share: the part of the image that is seen, the crosshair, and what is drawn over the image.

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

export class View {
  constructor() {
    this.image = null; // decoded picture at the size that is shown
    this.size = [1, 1]; // height and width of the image itself
    this.shown = [1, 1]; // height and width of the picture
    this.zoom = 1;
    this.centre = [0.5, 0.5]; // x and y, as shares of the picture
    this.crosshair = null; // [y, x] in pixels of the image, when the keyboard is used
    this.clicks = [];
    this.truth = null; // path, or null
    this.opacity = 0.4;
    this.outline = true;
    this.layers = new Set(); // names of overlays that are on
  }

  open(size, shown) {
    this.size = size;
    this.shown = shown;
    this.image = null;
    this.truth = null;
    this.crosshair = null;
    this.whole();
  }

  whole() {
    this.zoom = 1;
    this.centre = [0.5, 0.5];
  }

  // Zoom by a factor, keeping a place of the picture (x, y as shares) where it is.
  scaleBy(factor, at = this.centre) {
    const zoom = clamp(this.zoom * factor, 1, 64);
    this.centre = this.centre.map((c, i) => at[i] + (c - at[i]) * (this.zoom / zoom));
    this.zoom = zoom;
    this.#keepInside();
  }

  moveBy(dx, dy) {
    this.centre = [this.centre[0] + dx, this.centre[1] + dy];
    this.#keepInside();
  }

  #keepInside() {
    const half = 0.5 / this.zoom;
    this.centre = this.centre.map((c) => clamp(c, half, 1 - half));
  }

  // Screen pixels per picture pixel, and the corner of the picture, on a canvas of this width.
  place(width) {
    const scale = (width / this.shown[1]) * this.zoom;
    return {
      scale,
      left: width / 2 - this.centre[0] * this.shown[1] * scale,
      top: (width * this.shown[0]) / this.shown[1] / 2 - this.centre[1] * this.shown[0] * scale,
    };
  }

  // Pixel of the image under a place of a canvas; null outside.
  pixel(width, x, y) {
    const { scale, left, top } = this.place(width);
    const column = Math.floor(((x - left) / scale) * (this.size[1] / this.shown[1]));
    const row = Math.floor(((y - top) / scale) * (this.size[0] / this.shown[0]));
    return row >= 0 && column >= 0 && row < this.size[0] && column < this.size[1] ? [row, column] : null;
  }

  moveCrosshair(rows, columns, width, fine) {
    const perPixel = this.place(width).scale * (this.shown[1] / this.size[1]);
    const step = fine ? 1 : Math.max(1, Math.round(8 / perPixel));
    const [y, x] = this.crosshair || this.pixel(width, width / 2, (width * this.shown[0]) / this.shown[1] / 2) || [0, 0];
    this.crosshair = [clamp(y + rows * step, 0, this.size[0] - 1), clamp(x + columns * step, 0, this.size[1] - 1)];
    // It stays in sight.
    const half = 0.45 / this.zoom;
    const at = [(this.crosshair[1] + 0.5) / this.size[1], (this.crosshair[0] + 0.5) / this.size[0]];
    this.centre = this.centre.map((c, i) => clamp(c, at[i] - half, at[i] + half));
    this.#keepInside();
  }
}
