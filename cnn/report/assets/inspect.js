// One cell explained: where it looks, what it multiplies, what comes out, and that this is what the map stores.
"use strict";

const panel = document.getElementById("inspector");
const title = document.getElementById("cell-title");
const work = document.getElementById("work");
const total = document.getElementById("total");
const big = document.getElementById("big");
const field = document.getElementById("field");
let chosen = null;

function inspect(button, row, column, scroll = false) {
  chosen = { button, row, column };
  setCursor(button, row, column);
  const index = stepOf(button);
  const step = model.steps[index];
  const at = place(button, row, column);
  const stored = current.outputs[index][offset(step, at)];
  for (const other of buttons) other.classList.toggle("chosen", other === button);
  title.textContent = describe(button, row, column);
  panel.dataset.step = index;
  panel.classList.add("open");
  drawBig(button, row, column);
  drawField(index, at);
  work.replaceChildren();
  delete total.dataset.result;
  if (known(step)) {
    const cell = compute(step, current, at.c, at.p, at.q);
    work.append(...(shows[step.kind] ?? showOne)(step, cell, at));
    showTotal(step, cell, stored);
  } else {
    total.textContent = `Stored value ${long(stored)}. This page has no rule for this step.`;
  }
  if (scroll && innerWidth < 1000) {
    hideTip();
    panel.scrollIntoView({ block: "start" });
  }
}

function showTotal(step, cell, stored) {
  const difference = Math.abs(cell.result - stored);
  const same = difference <= 1e-5 * Math.max(1, Math.abs(stored));
  const how = {
    conv: () => `sum of ${cell.terms.length} products ${long(cell.sum)} + bias ${long(cell.bias)} = `,
    linear: () => `sum of ${cell.terms.length} products ${long(cell.sum)} + bias ${long(cell.bias)} = `,
    max: () => `largest of ${cell.terms.length} = `,
    avg: () => `mean of ${cell.terms.length} = `,
    relu: () => `max(0, ${long(cell.terms[0].value)}) = `,
    tanh: () => `tanh(${long(cell.terms[0].value)}) = `,
    scale: () => `${long(cell.terms[0].value)} · ${long(cell.terms[0].weight)} + ${long(cell.bias)} = `,
  }[step.kind];
  total.replaceChildren(
    how ? how() : "the same value, ", element("strong", {}, long(cell.result)),
    element("span", { className: same ? "same" : "differs" },
      same ? ` ✓ the map stores ${long(stored)}` : ` ✗ but the map stores ${long(stored)}`));
  Object.assign(total.dataset, { result: cell.result, stored, same });
}

// The largest magnitude of a whole layer: a window is painted as its maps are.
const loudest = (values) => values.reduce((most, v) => Math.max(most, Math.abs(v)), 0) || 1;

// Window, filter and products of each input map.
function showConv(step, cell, at) {
  const [R, S] = step.kernel;
  const per = R * S;
  const valueBound = loudest(inputValues(step, current));
  const weightBound = Math.max(...cell.terms.map((t) => Math.abs(t.weight))) || 1;
  const productBound = Math.max(...cell.terms.map((t) => Math.abs(t.product))) || 1;
  const signed = cell.terms.some((t) => t.value < 0);
  const blocks = [];
  for (let i = 0; i < cell.terms.length; i += per) {
    const part = cell.terms.slice(i, i + per);
    const sum = part.reduce((a, t) => a + t.product, 0);
    const from = step.source < 0 && dims(model.image.shape)[0] === 1 ? "image" : `input map ${part[0].channel + 1}`;
    blocks.push(element("div", { className: "channel" },
      numbers(R, S, (j) => (part[j].index === null ? null : part[j].value), valueBound, signed, from),
      element("span", { className: "sign" }, "×"),
      numbers(R, S, (j) => part[j].weight, weightBound, true, `filter ${at.c + 1}`),
      element("span", { className: "sign" }, "="),
      numbers(R, S, (j) => part[j].product, productBound, true, "products"),
      element("span", { className: "sum" }, `sum ${long(sum)}`)));
  }
  return blocks;
}

function showPool(step, cell) {
  const top = cell.terms[0], last = cell.terms.at(-1);
  const columns = 1 + Math.round((last.x - top.x) / step.dilation[1]);
  const rows = cell.terms.length / columns;
  const bound = loudest(inputValues(step, current));
  const signed = cell.terms.some((t) => t.value < 0);
  return [numbers(rows, columns, (j) => cell.terms[j].value, bound, signed, "window",
    (j) => step.kind === "max" && cell.terms[j].value === cell.result)];
}

// Contributions value x weight; of a flattened stack of maps, map by map.
function showLinear(step, cell) {
  let shape = inputShape(step);
  if (step.source >= 0 && model.steps[step.source].kind === "flatten") shape = inputShape(model.steps[step.source]);
  const bound = Math.max(...cell.terms.map((t) => Math.abs(t.product))) || 1;
  const stack = element("div", { className: "stack" });
  const parts = shape.length === 3 ? shape[0] : 1;
  const [rows, columns] = shape.length === 3 ? shape.slice(1) : [Math.ceil(cell.terms.length / 20), 20];
  for (let c = 0; c < parts; c++) {
    const read = (j) => cell.terms[c * rows * columns + j]?.product ?? 0;
    const size = Math.min(12, Math.floor(280 / columns));
    stack.append(element("img", { src: picture(read, rows, columns, bound, true), width: columns * size,
      height: rows * size, alt: parts > 1 ? `contributions of map ${c + 1}` : "contributions" }));
  }
  const strongest = [...cell.terms].sort((a, b) => Math.abs(b.product) - Math.abs(a.product)).slice(0, 6);
  const list = element("ol", { className: "strongest" }, ...strongest.map((t) =>
    element("li", {}, `input ${t.index}: ${long(t.value)} × ${long(t.weight)} = ${long(t.product)}`)));
  return [element("p", {}, "What each input adds (value × weight):"), stack, element("p", {}, "The strongest:"), list];
}

function showFlatten(step, cell, at) {
  const [, h, w] = dims(inputShape(step));
  const [map, row, column] = [Math.floor(at.c / (h * w)), Math.floor(at.c / w) % h, at.c % w];
  return [element("p", {}, `Flattening only renumbers: unit ${at.c} is map ${map + 1}, row ${row}, column ${column}.`)];
}

function showOne(step, cell) {
  const words = { relu: "ReLU keeps what is positive and sets the rest to 0.", tanh: "tanh squeezes every value into -1..1.",
    scale: "Batch normalisation, at work: a factor and a shift for each map.",
    identity: "Dropout does nothing outside training." };
  return [element("p", {}, words[step.kind] ?? "")];
}

const shows = { conv: showConv, max: showPool, avg: showPool, linear: showLinear, flatten: showFlatten };

function drawBig(button, row, column) {
  const [rows, columns] = [rowsOf(button), columnsOf(button)];
  const layer = button.closest(".layer");
  const cell = Math.max(4, Math.floor(Math.min(280 / columns, 280 / rows, 56)));
  big.width = cell * columns;
  big.height = cell * rows;
  const context = big.getContext("2d");
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      const rgb = colour(valueAt(button, y, x) ?? 0, Number(layer.dataset.bound), layer.dataset.signed === "1");
      context.fillStyle = css(rgb);
      context.fillRect(x * cell, y * cell, cell, cell);
    }
  }
  outline(context, column * cell, row * cell, cell, cell);
  big.setAttribute("aria-label", `${describe(button, row, column)}. Arrow keys move to the next cell.`);
}

function drawField(index, at) {
  const [channels, h, w] = model.image.shape;
  const cell = Math.max(2, Math.floor(196 / Math.max(h, w)));
  field.width = cell * w;
  field.height = cell * h;
  const context = field.getContext("2d");
  for (let i = 0; i < h * w; i++) {
    const rgb = [0, 1, 2].map((c) => 255 * Math.min(1, Math.max(0, current.image[Math.min(c, channels - 1) * h * w + i])));
    context.fillStyle = css(rgb);
    context.fillRect((i % w) * cell, Math.floor(i / w) * cell, cell, cell);
  }
  const seen = receptiveField(index, at.c, at.p, at.q);
  const words = document.getElementById("field-words");
  if (!seen) {
    words.textContent = "which pixels it sees is not known";
    return;
  }
  const [tall, wide] = [seen.bottom - seen.top + 1, seen.right - seen.left + 1];
  Object.assign(field.dataset, seen);
  outline(context, seen.left * cell, seen.top * cell, wide * cell, tall * cell);
  words.textContent = `it sees rows ${seen.top}–${seen.bottom}, columns ${seen.left}–${seen.right} of the image: ${tall} × ${wide} pixels`;
}

function outline(context, x, y, w, h) {
  context.lineWidth = 4;
  context.strokeStyle = "#000";
  context.strokeRect(x, y, w, h);
  context.lineWidth = 2;
  context.strokeStyle = "#ffd500";
  context.strokeRect(x, y, w, h);
}

function bigCell(event) {
  const box = big.getBoundingClientRect();
  const { button } = chosen;
  return [
    Math.min(rowsOf(button) - 1, Math.max(0, Math.floor(((event.clientY - box.top) / box.height) * rowsOf(button)))),
    Math.min(columnsOf(button) - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * columnsOf(button)))),
  ];
}

function go(row, column) {
  const { button } = chosen;
  if (valueAt(button, row, column) === null) return;
  inspect(button, row, column);
}

big.addEventListener("click", (event) => chosen && go(...bigCell(event)));
big.addEventListener("pointermove", (event) => {
  if (chosen) showTip(...readCell(chosen.button, ...bigCell(event)), event.clientX, event.clientY);
});
big.addEventListener("pointerleave", hideTip);
big.addEventListener("keydown", (event) => {
  const move = ARROWS[event.key];
  if (!move || !chosen) return;
  event.preventDefault();
  const { button, row, column } = chosen;
  go(Math.max(0, Math.min(rowsOf(button) - 1, row + move[0])), Math.max(0, Math.min(columnsOf(button) - 1, column + move[1])));
  live.textContent = `${title.textContent}: ${total.textContent}`;
});
