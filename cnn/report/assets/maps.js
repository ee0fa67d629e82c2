// Every map is a button: hover reads a value, arrows move, a click or Enter explains the cell.
"use strict";

const tip = document.getElementById("tip");
const live = document.getElementById("live");
const buttons = [...document.querySelectorAll("button.map")];

const stepOf = (button) => Number(button.dataset.step);
const rowsOf = (button) => Number(button.dataset.rows);
const columnsOf = (button) => Number(button.dataset.columns);

// Where a cell of a drawn map lies in the step's output: a vector is one folded map of N channels.
function place(button, row, column) {
  const step = model.steps[stepOf(button)];
  if (step.shape.length === 3) return { c: Number(button.dataset.channel), p: row, q: column };
  return { c: row * columnsOf(button) + column, p: 0, q: 0 };
}

function offset(step, { c, p, q }) {
  const [, h, w] = dims(step.shape);
  return (c * h + p) * w + q;
}

function valueAt(button, row, column) {
  const step = model.steps[stepOf(button)];
  const i = offset(step, place(button, row, column));
  return i < sizeOf(step.shape) ? current.outputs[stepOf(button)][i] : null;
}

function describe(button, row, column) {
  const step = model.steps[stepOf(button)];
  const { c } = place(button, row, column);
  if (step.shape.length === 3) return `${step.name}, map ${c + 1}, row ${row}, column ${column}`;
  const name = step.shape[0] === model.classes.length && stepOf(button) === model.steps.length - 1;
  return name ? `${step.name}, class ${model.classes[c]}` : `${step.name}, unit ${c}`;
}

function cellUnder(button, event) {
  const box = button.querySelector("img").getBoundingClientRect();
  const clamp = (v, n) => Math.max(0, Math.min(n - 1, Math.floor(v * n)));
  return [
    clamp((event.clientY - box.top) / box.height, rowsOf(button)),
    clamp((event.clientX - box.left) / box.width, columnsOf(button)),
  ];
}

function showTip(text, value, x, y) {
  tip.textContent = text;
  tip.dataset.value = value === null ? "" : String(value);
  tip.hidden = false;
  const width = tip.offsetWidth;
  tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - width - 8))}px`;
  tip.style.top = `${y + 18 + tip.offsetHeight > innerHeight ? y - tip.offsetHeight - 10 : y + 18}px`;
}

function hideTip() {
  tip.hidden = true;
}

function readCell(button, row, column) {
  const value = valueAt(button, row, column);
  return [value === null ? "nothing here" : `${describe(button, row, column)}: ${long(value)}`, value];
}

const cursors = new WeakMap();

function setCursor(button, row, column) {
  cursors.set(button, [row, column]);
  const mark = button.querySelector(".cursor");
  const [rows, columns] = [rowsOf(button), columnsOf(button)];
  mark.style.left = `${(100 * column) / columns}%`;
  mark.style.top = `${(100 * row) / rows}%`;
  mark.style.width = `${100 / columns}%`;
  mark.style.height = `${100 / rows}%`;
}

const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

for (const button of buttons) {
  const frame = button.querySelector(".frame");
  frame.append(element("span", { className: "cursor" }));
  setCursor(button, Math.floor(rowsOf(button) / 2), Math.floor(columnsOf(button) / 2));
  button.addEventListener("pointermove", (event) => {
    const [row, column] = cellUnder(button, event);
    showTip(...readCell(button, row, column), event.clientX, event.clientY);
  });
  button.addEventListener("pointerleave", hideTip);
  button.addEventListener("blur", hideTip);
  button.addEventListener("keydown", (event) => {
    const move = ARROWS[event.key];
    if (!move) return;
    event.preventDefault();
    const [row, column] = cursors.get(button);
    const next = [
      Math.max(0, Math.min(rowsOf(button) - 1, row + move[0])),
      Math.max(0, Math.min(columnsOf(button) - 1, column + move[1])),
    ];
    setCursor(button, ...next);
    const [text, value] = readCell(button, ...next);
    const box = button.querySelector(".cursor").getBoundingClientRect();
    showTip(text, value, box.left, box.top);
    live.textContent = text;
  });
  button.addEventListener("click", (event) => {
    // A click made by Enter or Space has no place: it means the cursor's cell.
    const cell = event.detail === 0 ? cursors.get(button) : cellUnder(button, event);
    if (valueAt(button, ...cell) !== null) inspect(button, ...cell, true);
  });
}

// Paint every map again, from `current`, each layer on its own scale.
function repaint() {
  model.steps.forEach((step, i) => {
    const output = current.outputs[i];
    const bound = loudest(output);
    const layer = document.querySelector(`.layer[data-step="${i}"]`);
    if (!layer) return;
    layer.dataset.bound = bound;
    for (const mark of layer.querySelectorAll("[data-share]")) mark.textContent = long(mark.dataset.share * bound);
    for (const button of layer.querySelectorAll("button.map")) {
      const [rows, columns] = [rowsOf(button), columnsOf(button)];
      const read = (j) => valueAt(button, Math.floor(j / columns), j % columns) ?? 0;
      button.querySelector("img").src = picture(read, rows, columns, bound, layer.dataset.signed === "1");
      const all = Array.from({ length: rows * columns }, (_, j) => read(j));
      button.setAttribute("aria-label", button.getAttribute("aria-label").replace(
        /from .* to .*$/, `from ${long(Math.min(...all))} to ${long(Math.max(...all))}`));
    }
  });
}

for (const image of document.querySelectorAll("img.filters")) {
  const step = model.steps[Number(image.dataset.step)];
  const [R, S] = step.kernel;
  const channels = Number(image.dataset.channels);
  image.addEventListener("pointermove", (event) => {
    const box = image.getBoundingClientRect();
    const y = Math.floor(((event.clientY - box.top) / box.height) * image.naturalHeight) - 1;
    const x = Math.floor(((event.clientX - box.left) / box.width) * image.naturalWidth) - 1;
    const [k, r, c, s] = [Math.floor(y / (R + 1)), y % (R + 1), Math.floor(x / (S + 1)), x % (S + 1)];
    if (y < 0 || x < 0 || r === R || s === S || k >= step.shape[0] || c >= channels) return hideTip();
    const value = weightAt(step, ((k * channels + c) * R + r) * S + s);
    showTip(`filter ${k + 1}, its slice for map ${c + 1}, row ${r}, column ${s}: ${long(value)}`, value,
      event.clientX, event.clientY);
  });
  image.addEventListener("pointerleave", hideTip);
}
