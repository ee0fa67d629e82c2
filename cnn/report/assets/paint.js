// Colours, numbers, and the pictures of maps.
"use strict";

const LOW = [0, 90, 181], HIGH = [213, 70, 0];

// The colour of a value: gray from 0 to bound, or, signed, blue - white - vermilion from -bound to bound.
function colour(value, bound, signed) {
  const t = bound ? Math.min(1, Math.abs(value) / bound) : 0;
  if (!signed) {
    const g = value > 0 ? Math.round(255 * t) : 0;
    return [g, g, g];
  }
  const end = value < 0 ? LOW : HIGH;
  return end.map((e) => Math.round(255 * (1 - t) + e * t));
}

const css = (rgb) => `rgb(${rgb.join(",")})`;
const light = ([r, g, b]) => 0.3 * r + 0.59 * g + 0.11 * b > 140;

// A number that fits into a small cell: .53, -1.2, 12.
function short(value) {
  if (Number.isInteger(value)) return String(value);
  const text = Math.abs(value) < 10 ? value.toFixed(2) : value.toFixed(Math.abs(value) < 100 ? 1 : 0);
  return text.replace(/^-?0\.00$/, ".00").replace(/^(-?)0\./, "$1.");
}

const long = (value) => Number(value.toPrecision(5)).toString().replace("-", "\u2212");

// A map of rows x columns as a PNG data address, one pixel a cell.
function picture(get, rows, columns, bound, signed) {
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(columns, rows);
  for (let i = 0; i < rows * columns; i++) {
    pixels.data.set([...colour(get(i), bound, signed), 255], 4 * i);
  }
  context.putImageData(pixels, 0, 0);
  return canvas.toDataURL();
}

function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key in node) node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

// Rows of numbers on their colours. mark(i): whether cell i gets an outline.
function numbers(rows, columns, get, bound, signed, label, mark = () => false) {
  const table = element("table", { className: "numbers" }, element("caption", {}, label));
  for (let y = 0; y < rows; y++) {
    const row = table.insertRow();
    for (let x = 0; x < columns; x++) {
      const value = get(y * columns + x);
      const cell = row.insertCell();
      if (value === null) {
        cell.className = "outside";
        cell.textContent = "0";
        cell.title = "padding";
        continue;
      }
      const rgb = colour(value, bound, signed);
      cell.textContent = short(value);
      cell.title = String(value);
      cell.style.background = css(rgb);
      cell.style.color = light(rgb) ? "#000" : "#fff";
      if (mark(y * columns + x)) cell.className = "marked";
    }
  }
  return table;
}
