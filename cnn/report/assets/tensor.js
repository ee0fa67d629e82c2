// The embedded values, and every step of the network computed again in the page.
"use strict";

const model = JSON.parse(document.getElementById("steps").textContent);

const values = (() => {
  const text = atob(document.getElementById("values").textContent.trim());
  const bytes = Uint8Array.from(text, (c) => c.charCodeAt(0));
  // float32, little-endian, read through a DataView so that the page does not depend on the machine's byte order.
  const view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
})();

const sizeOf = (shape) => shape.reduce((a, b) => a * b, 1);
const slice = (at, count) => values.subarray(at, at + count);

// A map (C, H, W), or a vector (N) as C = N maps of one cell.
const dims = (shape) => (shape.length === 3 ? shape : [sizeOf(shape), 1, 1]);

const original = {
  image: slice(model.image.at, sizeOf(model.image.shape)),
  outputs: model.steps.map((s) => slice(s.at, sizeOf(s.shape))),
};

// What the page shows now: the traced image, or a drawing.
let current = original;

const inputShape = (step) => (step.source < 0 ? model.image.shape : model.steps[step.source].shape);
const inputValues = (step, state) => (step.source < 0 ? state.image : state.outputs[step.source]);

const weightAt = (step, i) => values[step.weight + i];
const biasAt = (step, i) => (step.bias === null ? 0 : values[step.bias + i]);

// The taps of one window: [{r, s, y, x, index}], index null outside the map.
function taps(step, p, q) {
  const [, h, w] = dims(inputShape(step));
  const out = [];
  for (let r = 0; r < step.kernel[0]; r++) {
    for (let s = 0; s < step.kernel[1]; s++) {
      const y = p * step.stride[0] - step.padding[0] + r * step.dilation[0];
      const x = q * step.stride[1] - step.padding[1] + s * step.dilation[1];
      const inside = y >= 0 && y < h && x >= 0 && x < w;
      out.push({ r, s, y, x, index: inside ? y * w + x : null });
    }
  }
  return out;
}

// One cell of one step: {result, terms}, terms being what is added, multiplied or compared.
const rules = {
  conv(step, input, c, p, q) {
    const [channels, h, w] = dims(inputShape(step));
    const group = channels / step.groups;
    const first = Math.floor(c / (step.shape[0] / step.groups)) * group;
    const window = taps(step, p, q);
    const terms = [];
    let sum = 0;
    for (let i = 0; i < group; i++) {
      for (const t of window) {
        const value = t.index === null ? 0 : input[(first + i) * h * w + t.index];
        const weight = weightAt(step, ((c * group + i) * step.kernel[0] + t.r) * step.kernel[1] + t.s);
        terms.push({ ...t, channel: first + i, value, weight, product: value * weight });
        sum += value * weight;
      }
    }
    const bias = biasAt(step, c);
    return { terms, sum, bias, result: sum + bias };
  },
  max(step, input, c, p, q) {
    const [, h, w] = dims(inputShape(step));
    const terms = taps(step, p, q)
      .filter((t) => t.index !== null)
      .map((t) => ({ ...t, channel: c, value: input[c * h * w + t.index] }));
    return { terms, result: Math.max(...terms.map((t) => t.value)) };
  },
  avg(step, input, c, p, q) {
    const [, h, w] = dims(inputShape(step));
    const terms = taps(step, p, q).map((t) => ({
      ...t, channel: c, value: t.index === null ? 0 : input[c * h * w + t.index],
    }));
    return { terms, result: terms.reduce((a, t) => a + t.value, 0) / terms.length };
  },
  linear(step, input, c) {
    const terms = Array.from(input, (value, i) => {
      const weight = weightAt(step, c * input.length + i);
      return { index: i, value, weight, product: value * weight };
    });
    const sum = terms.reduce((a, t) => a + t.product, 0);
    const bias = biasAt(step, c);
    return { terms, sum, bias, result: sum + bias };
  },
  scale(step, input, c, p, q) {
    const value = one(step, input, c, p, q);
    return { terms: [{ value, weight: weightAt(step, c) }], bias: biasAt(step, c),
      result: value * weightAt(step, c) + biasAt(step, c) };
  },
  relu: (step, input, c, p, q) => elementwise(step, input, c, p, q, (v) => Math.max(0, v)),
  tanh: (step, input, c, p, q) => elementwise(step, input, c, p, q, Math.tanh),
  identity: (step, input, c, p, q) => elementwise(step, input, c, p, q, (v) => v),
  flatten: (step, input, c, p, q) => elementwise(step, input, c, p, q, (v) => v),
};

function one(step, input, c, p, q) {
  const [, h, w] = dims(step.shape);
  return input[(c * h + p) * w + q];
}

function elementwise(step, input, c, p, q, f) {
  const value = one(step, input, c, p, q);
  return { terms: [{ value }], result: f(value) };
}

const known = (step) => step.plain && step.kind in rules;

function compute(step, state, c, p, q) {
  return rules[step.kind](step, inputValues(step, state), c, p, q);
}

// The whole network on new pixels; null where a step cannot be redone in the page.
const runnable = model.steps.every(known);

function forward(image) {
  const state = { image: Float32Array.from(image), outputs: [] };
  for (const step of model.steps) {
    const [c, h, w] = dims(step.shape);
    const input = inputValues(step, state);
    const out = new Float32Array(c * h * w);
    const rule = fast[step.kind];
    for (let k = 0, i = 0; k < c; k++) {
      for (let p = 0; p < h; p++) {
        for (let q = 0; q < w; q++, i++) {
          out[i] = rule ? rule(step, input, k, p, q) : rules[step.kind](step, input, k, p, q).result;
        }
      }
    }
    state.outputs.push(out);
  }
  return state;
}

// The two rules with many terms, without a record of each term: a drawing is answered while it is drawn.
const fast = {
  linear(step, input, c) {
    let sum = biasAt(step, c);
    for (let i = 0, at = step.weight + c * input.length; i < input.length; i++) sum += input[i] * values[at + i];
    return sum;
  },
  conv(step, input, c, p, q) {
    const [channels, h, w] = dims(inputShape(step));
    const [R, S] = step.kernel;
    const group = channels / step.groups;
    const first = Math.floor(c / (step.shape[0] / step.groups)) * group;
    let sum = biasAt(step, c);
    for (let i = 0; i < group; i++) {
      for (let r = 0; r < R; r++) {
        const y = p * step.stride[0] - step.padding[0] + r * step.dilation[0];
        if (y < 0 || y >= h) continue;
        for (let s = 0; s < S; s++) {
          const x = q * step.stride[1] - step.padding[1] + s * step.dilation[1];
          if (x < 0 || x >= w) continue;
          sum += input[((first + i) * h + y) * w + x] * weightAt(step, ((c * group + i) * R + r) * S + s);
        }
      }
    }
    return sum;
  },
};

// The rectangle of image pixels that a cell depends on: {top, bottom, left, right}, inclusive; null where unknown.
function receptiveField(index, c, p, q) {
  let rows = [p, p], columns = [q, q];
  for (let i = index; i >= 0; i = model.steps[i].source) {
    const step = model.steps[i];
    if (!known(step)) return null;
    const [, h, w] = dims(inputShape(step));
    if (step.kind === "linear") {
      rows = [0, h - 1];
      columns = [0, w - 1];
      c = null;
    } else if (step.kind === "flatten") {
      if (c === null) {
        rows = [0, h - 1];
        columns = [0, w - 1];
      } else {
        rows = [Math.floor(c / w) % h, Math.floor(c / w) % h];
        columns = [c % w, c % w];
        c = 0;
      }
    } else if (step.kernel) {
      const back = ([a, b], d, limit) => [
        Math.max(0, a * step.stride[d] - step.padding[d]),
        Math.min(limit - 1, b * step.stride[d] - step.padding[d] + (step.kernel[d] - 1) * step.dilation[d]),
      ];
      rows = back(rows, 0, h);
      columns = back(columns, 1, w);
    }
  }
  return { top: rows[0], bottom: rows[1], left: columns[0], right: columns[1] };
}

function softmax(scores) {
  const top = Math.max(...scores);
  const powers = Array.from(scores, (s) => Math.exp(s - top));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((v) => v / sum);
}
