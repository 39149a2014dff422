"use strict";
// ---------------------------------------------------------------- 1 of 4: arithmetic
// What the page holds, networks of Dense layers, nats, and the plane of the map. A code
// is an array of `dimensions` numbers, an image one of 784 pixels from 0 to 1.

const part = Object.fromEntries(
  [...document.querySelectorAll("[id]")].map(node => [node.id, node]));
// A notebook that is in a frame itself (Colab, Kaggle, VS Code) may refuse new tabs.
if (window !== window.parent && window.parent === window.top) {
  // A frame in a notebook has no address, so the new tab gets a copy of the page.
  const copy = new Blob(["<!doctype html>", document.documentElement.outerHTML],
    { type: "text/html" });
  part.alone.href =
    location.protocol === "about:" ? URL.createObjectURL(copy) : location.href;
  part.alone.hidden = false;
}

const TYPES = { uint8: Uint8Array, float32: Float32Array };
let page;  // what page.write stored: models, labels, pictures, ...

async function unpack({ page, arrays }) {
  const bytes = Uint8Array.from(atob(arrays), letter => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream();
  const data = await new Response(
    stream.pipeThrough(new DecompressionStream("deflate"))).arrayBuffer();
  const unpacked = value => {
    if (Array.isArray(value)) return value.map(unpacked);
    if (value === null || typeof value !== "object") return value;
    if ("start" in value) {
      const { type, start } = value, count = value.shape.reduce((a, b) => a * b, 1);
      if (type !== "int16") return new TYPES[type](data, start, count);
      const low = new Int8Array(data, start, count);
      const high = new Int8Array(data, start + count, count);
      const both = new Int16Array(count);
      for (let i = 0; i < count; i++) both[i] = low[i] + 256 * high[i];
      return both;
    }
    return Object.fromEntries(
      Object.entries(value).map(([key, inner]) => [key, unpacked(inner)]));
  };
  return unpacked(page);
}

const activations = {
  linear: a => a, relu: a => Math.max(a, 0), sigmoid: a => 1 / (1 + Math.exp(-a)),
};

function forward(layers, input) {
  let x = input;
  for (const layer of layers) {
    // Products of floats are faster than of integers and floats.
    const kernel = layer.floats ??= Float32Array.from(layer.kernel);
    const { scale, bias } = layer, activate = activations[layer.activation];
    const y = new Float64Array(bias.length), width = y.length;
    for (let i = 0, row = 0; i < x.length; i++, row += width) {
      const value = x[i];
      if (value !== 0)
        for (let j = 0; j < width; j++) y[j] += value * kernel[row + j];
    }
    for (let j = 0; j < width; j++) y[j] = activate(bias[j] + scale * y[j]);
    x = y;
  }
  return x;
}

const decode = (model, z) => forward(model.decoder, z);

// The mean and the log-variance of an image's code; an autoencoder has no log-variance.
function encode(model, image) {
  const codes = forward(model.encoder, image), d = model.dimensions;
  return [codes.subarray(0, d), codes.length > d ? codes.subarray(d) : null];
}

function crossEntropy(image, predicted) {  // summed over pixels, clipped as in Keras
  let sum = 0;
  for (let i = 0; i < image.length; i++) {
    const p = Math.min(Math.max(predicted[i], 1e-7), 1 - 1e-7);
    sum -= image[i] * Math.log(p) + (1 - image[i]) * Math.log(1 - p);
  }
  return sum;
}

// The nats of an image: reconstruction (the mean over the page's fixed draws of z), KL,
// their sum -ELBO, and the entropy of the pixels.
function measure(model, image) {
  const [mean, logVar] = encode(model, image), d = model.dimensions;
  const sd = i => logVar ? Math.exp(0.5 * logVar[i]) : 0;
  const draws = model.noise.length / d;
  let reconstruction = 0, kl = 0;
  for (let k = 0; k < draws; k++) {
    const z = mean.map((value, i) => value + sd(i) * model.noise[k * d + i]);
    reconstruction += crossEntropy(image, decode(model, z)) / draws;
  }
  for (let i = 0; logVar && i < d; i++)
    kl += 0.5 * (mean[i] ** 2 + Math.exp(logVar[i]) - 1 - logVar[i]);
  const entropy = crossEntropy(image, image);
  return { mean, logVar, reconstruction, kl, bound: reconstruction + kl, entropy };
}

const picture = i =>  // of garment i on the map
  Float32Array.from(page.pictures.subarray(784 * i, 784 * i + 784), v => v / 255);
const codeOf = (model, i) => {
  const start = i * model.dimensions, stored = model.codes;
  return Float32Array.from(stored.subarray(start, start + model.dimensions),
    value => value * model.scale);
};

// Between codes and points of the plane.
function toPlane(model, z) {
  const { axes, centre, dimensions } = model, point = [0, 0];
  for (let i = 0; i < dimensions; i++) {
    point[0] += (z[i] - centre[i]) * axes[i];
    point[1] += (z[i] - centre[i]) * axes[dimensions + i];
  }
  return point;
}
function fromPlane(model, [u, v]) {
  const { axes, centre, dimensions } = model;
  return centre.map((value, i) => value + u * axes[i] + v * axes[dimensions + i]);
}
// How far a code is from the plane, 0 if the map shows it where it is.
const offPlane = (model, z) =>
  Math.hypot(...fromPlane(model, toPlane(model, z)).map((value, i) => value - z[i]));
// The garments nearest to a code, of those that a test admits: [distance, garment].
function nearestCodes(model, z, count, admits) {
  const { codes, scale, dimensions } = model, found = [];
  for (let i = 0, at = 0; i < page.labels.length; i++, at += dimensions) {
    if (!admits(i)) continue;
    let sum = 0;
    for (let k = 0; k < dimensions; k++) sum += (codes[at + k] * scale - z[k]) ** 2;
    found.push([Math.sqrt(sum), i]);
  }
  return found.sort((a, b) => a[0] - b[0]).slice(0, count);
}
// The covariance of an image's cloud on the plane: [xx, xy, yy].
function onPlane(model, logVar) {
  const { axes, dimensions } = model, sums = [0, 0, 0];
  logVar.forEach((value, i) => {
    const a = axes[i], b = axes[dimensions + i], variance = Math.exp(value);
    [a * a, a * b, b * b].forEach((c, k) => sums[k] += c * variance);
  });
  return sums;
}
const normal = () =>  // a draw from N(0, 1), by the Box-Muller transform
  Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
const median = values => [...values].sort((a, b) => a - b)[values.length >> 1];

