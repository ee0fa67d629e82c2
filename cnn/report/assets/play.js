// The playground: a window of any size, stride, padding and dilation sliding over the picture.
"use strict";

const play = document.getElementById("play");
if (play) {
  const read = (name) => Number(document.getElementById(`play-${name}`).value);
  const board = document.getElementById("play-board");
  const result = document.getElementById("play-result");
  const formula = document.getElementById("play-formula");
  const sentence = document.getElementById("play-sentence");
  const slider = document.getElementById("play-step");
  const go = document.getElementById("play-go");
  const preset = document.getElementById("play-filter");
  let timer = null;

  const presets = {
    edge: (r, s, k) => Math.sign(s - (k - 1) / 2),
    top: (r, s, k) => Math.sign(r - (k - 1) / 2),
    sum: () => 1,
    copy: (r, s, k) => (r === Math.floor(k / 2) && s === Math.floor(k / 2) ? 1 : 0),
  };

  // The middle of the image in I x I squares, as whole numbers from 0 to 9.
  function squares(I) {
    const [, H, W] = model.image.shape;
    const box = Math.round(0.8 * Math.min(H, W));
    const [top, left] = [Math.floor((H - box) / 2), Math.floor((W - box) / 2)];
    const sums = new Float64Array(I * I), counts = new Float64Array(I * I);
    for (let y = 0; y < box; y++) {
      for (let x = 0; x < box; x++) {
        const cell = Math.floor((y * I) / box) * I + Math.floor((x * I) / box);
        sums[cell] += original.image[(top + y) * W + left + x];
        counts[cell]++;
      }
    }
    return Array.from(sums, (v, i) => Math.round((9 * v) / Math.max(1, counts[i])));
  }

  function draw() {
    const [I, K, S, P, D] = ["i", "k", "s", "p", "d"].map(read);
    const span = D * (K - 1) + 1;
    for (const name of ["i", "k", "s", "p", "d"]) document.getElementById(`play-${name}-value`).textContent = read(name);
    if (span > I + 2 * P) {
      formula.textContent = `A window of ${span} does not fit into ${I} + 2·${P} = ${I + 2 * P} squares.`;
      board.replaceChildren();
      result.replaceChildren();
      sentence.textContent = "";
      delete formula.dataset.output;
      return;
    }
    const O = Math.floor((I + 2 * P - D * (K - 1) - 1) / S) + 1;
    formula.textContent = `O = ⌊(I + 2P − D(K − 1) − 1) / S⌋ + 1 = ⌊(${I} + 2·${P} − ${D}·(${K} − 1) − 1) / ${S}⌋ + 1 = ${O}`;
    formula.dataset.output = O;
    slider.max = O * O - 1;
    const now = Math.min(Number(slider.value), O * O - 1);
    const [p, q] = [Math.floor(now / O), now % O];
    const input = squares(I);
    const at = (y, x) => (y >= 0 && y < I && x >= 0 && x < I ? input[y * I + x] : 0);
    const weight = (r, s) => presets[preset.value](r, s, K);
    const output = Array.from({ length: O * O }, (_, i) => {
      let sum = 0;
      for (let r = 0; r < K; r++) {
        for (let s = 0; s < K; s++) {
          sum += weight(r, s) * at(Math.floor(i / O) * S - P + r * D, (i % O) * S - P + s * D);
        }
      }
      return sum;
    });
    const tapOf = (y, x) => {
      const [r, s] = [(y - p * S) / D, (x - q * S) / D];
      return r >= 0 && r < K && s >= 0 && s < K && r % 1 === 0 && s % 1 === 0 ? [r, s] : null;
    };
    const N = I + 2 * P;
    const shown = numbers(N, N, (j) => {
      const [y, x] = [Math.floor(j / N) - P, (j % N) - P];
      return y < 0 || y >= I || x < 0 || x >= I ? null : at(y, x);
    }, 9, false, "input", (j) => tapOf(Math.floor(j / N), j % N));
    // Padding squares are empty; those under the window are marked as well.
    [...shown.querySelectorAll("td")].forEach((td, j) => {
      if (tapOf(Math.floor(j / N), j % N)) td.classList.add("marked");
    });
    board.replaceChildren(shown,
      numbers(K, K, (j) => weight(Math.floor(j / K), j % K), 1, true, "filter"));
    const bound = Math.max(...output.map(Math.abs)) || 1;
    result.replaceChildren(numbers(O, O, (j) => output[j], bound, true, `output ${O} × ${O}`, (j) => j === now));
    const terms = [];
    for (let r = 0; r < K; r++) {
      for (let s = 0; s < K; s++) {
        const w = weight(r, s);
        if (w) terms.push(`${at(p * S - P + r * D, q * S - P + s * D)}·${w < 0 ? `(${w})` : w}`);
      }
    }
    sentence.textContent = `Step ${now + 1} of ${O * O}: ${terms.join(" + ") || "0"} = ${output[now]}`;
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    go.textContent = "Play";
  }

  go.addEventListener("click", () => {
    if (timer) return stop();
    go.textContent = "Pause";
    timer = setInterval(() => {
      slider.value = Number(slider.value) >= Number(slider.max) ? 0 : Number(slider.value) + 1;
      draw();
    }, 400);
  });
  for (const input of play.querySelectorAll("input, select")) input.addEventListener("input", draw);
  draw();
}
