// A pad to draw on: the network runs in the page on every stroke.
"use strict";

const pad = document.getElementById("pad");
if (pad && runnable) {
  const [, H, W] = model.image.shape;
  const SIZE = 280, PEN = 22;
  const context = pad.getContext("2d", { willReadFrequently: true });
  const preview = document.getElementById("pad-preview");
  const answer = document.getElementById("pad-answer");
  const look = document.getElementById("pad-look");
  let pen = null;
  let waiting = 0;
  const keyboard = { x: SIZE / 2, y: SIZE / 2, down: false };
  let drawn = new Float32Array(H * W);

  function clear() {
    context.fillStyle = "#000";
    context.fillRect(0, 0, SIZE, SIZE);
    drawn = new Float32Array(H * W);
    preview.src = picture((i) => drawn[i], H, W, 1, false);
    look.disabled = true;
    answer.replaceChildren(element("p", {}, "Draw a digit."));
  }

  function stroke(x0, y0, x1, y1) {
    context.strokeStyle = "#fff";
    context.lineCap = "round";
    context.lineWidth = PEN;
    context.beginPath();
    context.moveTo(x0, y0);
    context.lineTo(x1 + 0.01, y1);
    context.stroke();
    // A fast pen moves many times a frame; the network answers once.
    if (!waiting) waiting = requestAnimationFrame(read);
  }

  // As MNIST is made: the ink's box scaled to 20/28 of the image, its centre of mass put into the middle.
  function read() {
    waiting = 0;
    const ink = context.getImageData(0, 0, SIZE, SIZE).data;
    let [top, left, bottom, right] = [SIZE, SIZE, -1, -1];
    for (let y = 0; y < SIZE; y++) {
      for (let x = 0; x < SIZE; x++) {
        if (ink[4 * (y * SIZE + x)] > 40) {
          top = Math.min(top, y);
          bottom = Math.max(bottom, y);
          left = Math.min(left, x);
          right = Math.max(right, x);
        }
      }
    }
    if (bottom < 0) return;
    const [tall, wide] = [bottom - top + 1, right - left + 1];
    const scale = Math.min((H * 20) / 28 / tall, (W * 20) / 28 / wide);
    // Each of our pixels is the mean of 4 x 4 samples of what it covers.
    const small = new Float32Array(H * W);
    const [h, w] = [tall * scale, wide * scale];
    const [offsetY, offsetX] = [(H - h) / 2, (W - w) / 2];
    const fine = 4;
    for (let y = 0; y < H * fine; y++) {
      for (let x = 0; x < W * fine; x++) {
        const sy = Math.floor(top + ((y + 0.5) / fine - offsetY) / scale);
        const sx = Math.floor(left + ((x + 0.5) / fine - offsetX) / scale);
        if (sy < top || sy > bottom || sx < left || sx > right) continue;
        small[Math.floor(y / fine) * W + Math.floor(x / fine)] += ink[4 * (sy * SIZE + sx)] / 255 / (fine * fine);
      }
    }
    drawn = centred(small);
    answerWith(forward(drawn));
  }

  function centred(small) {
    let [mass, my, mx] = [0, 0, 0];
    small.forEach((v, i) => {
      mass += v;
      my += v * Math.floor(i / W);
      mx += v * (i % W);
    });
    const [dy, dx] = [Math.round((H - 1) / 2 - my / mass), Math.round((W - 1) / 2 - mx / mass)];
    const out = new Float32Array(H * W);
    small.forEach((v, i) => {
      const [y, x] = [Math.floor(i / W) + dy, (i % W) + dx];
      if (y >= 0 && y < H && x >= 0 && x < W) out[y * W + x] = Math.min(1, v);
    });
    return out;
  }

  function answerWith(state) {
    preview.src = picture((i) => drawn[i], H, W, 1, false);
    look.disabled = false;
    const shares = softmax(state.outputs.at(-1));
    const best = shares.indexOf(Math.max(...shares));
    const lead = element("p", {}, "It reads ", element("strong", {}, model.classes[best]),
      `, ${(100 * shares[best]).toFixed(1)} %`);
    answer.replaceChildren(lead, ...bars(shares, best));
  }

  function bars(shares, best) {
    return shares.map((share, i) => element("div", { className: i === best ? "bar best" : "bar" },
      element("span", { className: "name" }, model.classes[i]),
      element("span", { className: "track" }, element("span", { className: "fill", style: `width:${100 * share}%` })),
      element("span", { className: "share" }, `${(100 * share).toFixed(1)} %`)));
  }

  const at = (event) => {
    const box = pad.getBoundingClientRect();
    return [((event.clientX - box.left) * SIZE) / box.width, ((event.clientY - box.top) * SIZE) / box.height];
  };
  pad.addEventListener("pointerdown", (event) => {
    pad.setPointerCapture(event.pointerId);
    pen = at(event);
    stroke(...pen, ...pen);
  });
  pad.addEventListener("pointermove", (event) => {
    if (!pen) return;
    const next = at(event);
    stroke(...pen, ...next);
    pen = next;
  });
  for (const end of ["pointerup", "pointercancel"]) pad.addEventListener(end, () => { pen = null; });
  pad.addEventListener("keydown", (event) => {
    if (event.key === " ") {
      event.preventDefault();
      keyboard.down = !keyboard.down;
      if (keyboard.down) stroke(keyboard.x, keyboard.y, keyboard.x, keyboard.y);
      live.textContent = keyboard.down ? "pen down" : "pen up";
    }
    const move = ARROWS[event.key];
    if (!move) return;
    event.preventDefault();
    const [x, y] = [keyboard.x, keyboard.y];
    keyboard.x = Math.max(0, Math.min(SIZE, x + 10 * move[1]));
    keyboard.y = Math.max(0, Math.min(SIZE, y + 10 * move[0]));
    if (keyboard.down) stroke(x, y, keyboard.x, keyboard.y);
  });
  document.getElementById("pad-clear").addEventListener("click", clear);
  look.addEventListener("click", () => {
    read();
    show(forward(drawn));
  });
  clear();
}

// Everything above shows this state of the network: the drawing's, or the image's own.
function show(state) {
  current = state;
  document.body.classList.toggle("drawing", state !== original);
  document.getElementById("back").hidden = state === original;
  repaint();
  if (chosen) inspect(chosen.button, chosen.row, chosen.column);
  if (state !== original) document.getElementById("layers").scrollIntoView();
}

document.getElementById("back").addEventListener("click", () => show(original));
