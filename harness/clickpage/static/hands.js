// Mouse, touch and keys on a canvas, turned into what a person wants.

const STILL = 5; // screen pixels that a pointer may move in a click

// wish.click(row, column, negative, event), wish.draw(), wish.key(name, event) -> whether it was known
export function hands(stage, wish) {
  const { view, canvas } = stage;
  let down = null;
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary) { down = null; return; } // a second finger is no click
    down = { at: place(event), from: place(event), moved: false };
    try { canvas.setPointerCapture(event.pointerId); } catch { /* the pointer is gone already */ }
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!down) return;
    const [x, y] = place(event);
    if (Math.hypot(x - down.at[0], y - down.at[1]) > STILL) down.moved = true;
    if (down.moved && view.zoom > 1) {
      const { scale } = view.place(stage.width);
      view.moveBy((down.from[0] - x) / scale / view.shown[1], (down.from[1] - y) / scale / view.shown[0]);
      wish.draw();
    }
    down.from = [x, y];
  });
  canvas.addEventListener("pointercancel", () => { down = null; });
  canvas.addEventListener("pointerup", (event) => {
    const still = down && !down.moved;
    down = null;
    if (!still || (event.button !== 0 && event.button !== 2)) return;
    const pixel = view.pixel(stage.width, ...place(event));
    view.crosshair = null;
    if (pixel) wish.click(...pixel, event.button === 2, event);
  });
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return; // the wheel alone scrolls the page
    event.preventDefault();
    const { scale, left, top } = view.place(stage.width);
    const [x, y] = place(event);
    view.scaleBy(Math.exp(-event.deltaY / 200), [(x - left) / scale / view.shown[1], (y - top) / scale / view.shown[0]]);
    wish.draw();
  }, { passive: false });
  const arrows = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (arrows[event.key]) {
      view.moveCrosshair(...arrows[event.key], stage.width, event.shiftKey);
      event.preventDefault();
      wish.moved(stage);
    } else if (["Enter", " ", "n"].includes(event.key)) {
      event.preventDefault();
      if (event.repeat) return;
      if (!view.crosshair) view.moveCrosshair(0, 0, stage.width, true);
      wish.click(...view.crosshair, event.key === "n", event);
    } else if (wish.key(event.key)) {
      event.preventDefault();
    }
  });
}
