// Masks from runs: a tinted picture of the mask's box, and its outline as a path that stays sharp at any zoom.

const MOST_EDGES = 400000;

function paint(pixels, runs, value) {
  let at = 0;
  runs.forEach((length, i) => {
    if (i % 2) pixels.fill(value, at, at + length);
    at += length;
  });
  return pixels;
}

export function unpack({ box: [top, left, height, width], runs }) {
  return { top, left, height, width, runs, inside: paint(new Uint8Array(height * width), runs, 1) };
}

export function holds(mask, y, x) {
  const row = y - mask.top, column = x - mask.left;
  return row >= 0 && column >= 0 && row < mask.height && column < mask.width && mask.inside[row * mask.width + column] === 1;
}

export function tint(mask, [red, green, blue]) {
  if (!mask.height) return null;
  const canvas = document.createElement("canvas");
  canvas.width = mask.width;
  canvas.height = mask.height;
  const image = new ImageData(mask.width, mask.height);
  paint(new Uint32Array(image.data.buffer), mask.runs, (255 << 24) | (blue << 16) | (green << 8) | red);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

// Edges between pixels of different values, joined along rows and columns. A mask of specks gets none: it is all edges.
export function outline({ top, left, height, width, inside }) {
  const path = new Path2D(), stride = width + 2;
  const padded = new Uint8Array((height + 2) * stride);
  for (let y = 0; y < height; y += 1) padded.set(inside.subarray(y * width, (y + 1) * width), (y + 1) * stride + 1);
  const open = new Int32Array(width + 1).fill(-1); // where the edge left of each column began
  let edges = 0;
  const line = (x0, y0, x1, y1) => {
    path.moveTo(left + x0, top + y0);
    path.lineTo(left + x1, top + y1);
    edges += 1;
  };
  for (let y = 0; y <= height && edges <= MOST_EDGES; y += 1) {
    const row = (y + 1) * stride + 1, above = row - stride;
    let begin = -1;
    for (let x = 0; x <= width; x += 1) {
      const here = padded[row + x];
      if (here !== padded[above + x]) {
        if (begin < 0) begin = x;
      } else if (begin >= 0) {
        line(begin, y, x, y);
        begin = -1;
      }
      if (here !== padded[row + x - 1]) {
        if (open[x] < 0) open[x] = y;
      } else if (open[x] >= 0) {
        line(x, open[x], x, y);
        open[x] = -1;
      }
    }
  }
  return edges > MOST_EDGES ? null : path;
}
