// ---------------------------------------------------------------- 2 of 4: posterior
// The true posterior p(z | x) of a VAE with two dimensions, by quadrature: p(x), the
// integral of p(x | z) p(z), is a sum over squares of the map. Where it is high, squares
// are divided. The last layer's sums are a = W h + b, so that
// log p(x | z) = x . a - sum softplus(a) = (x W) . h + x . b - sum softplus(a):
// h and the last sum are computed once for a square, and serve every image.

const COARSE = 96;  // the map has so many squares along each side
const DEEP = 14;  // squares within so many nats of the highest are divided into 4 x 4

function square(model, z, size) {
  const hidden = forward(model.decoder.slice(0, -1), z);
  model.sums ??= [{ ...model.decoder.at(-1), activation: "linear" }];
  const sums = forward(model.sums, hidden);
  let prior = -Math.log(2 * Math.PI) - (z[0] ** 2 + z[1] ** 2) / 2;
  for (const a of sums) prior -= Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a)));
  return { z, size, prior, hidden: Float32Array.from(hidden), log: 0, parts: null };
}

// Computes the coarse squares, for some milliseconds; true when all are there.
function fillSquares(model, milliseconds) {
  const { middle, half } = model, squares = model.squares ??= [];
  const at = i => half * ((2 * i + 1) / COARSE - 1), end = performance.now() + milliseconds;
  while (squares.length < COARSE ** 2 && performance.now() < end) {
    const [row, column] = [Math.floor(squares.length / COARSE), squares.length % COARSE];
    squares.push(square(model, [middle[0] + at(column), middle[1] - at(row)],
      2 * half / COARSE));
  }
  return squares.length === COARSE ** 2;
}

function divided({ z: [u, v], size }, model) {
  const offsets = [-3, -1, 1, 3].map(k => k * size / 8);
  return offsets.flatMap(y => offsets.map(x => square(model, [u + x, v + y], size / 4)));
}

// log p(x) and the squares that hold the posterior's mass, each with log p(x, z). If the
// milliseconds are over, some are too large: `isExact` is false, and a second call,
// which finds what the first has computed, goes on.
function truePosterior(model, image, milliseconds = 25) {
  const { kernel, scale, bias } = model.decoder.at(-1), width = bias.length;
  const weights = new Float64Array(kernel.length / width);  // x W
  let constant = 0;  // x . b
  for (let i = 0; i < width; i++) {
    if (image[i] === 0) continue;
    constant += image[i] * bias[i];
    for (let k = 0, at = i; k < weights.length; k++, at += width)
      weights[k] += scale * image[i] * kernel[at];
  }
  const evaluate = node => {
    let sum = constant + node.prior;
    for (let k = 0; k < weights.length; k++) sum += weights[k] * node.hidden[k];
    node.log = sum;
  };
  let current = model.squares, isExact = true;
  current.forEach(evaluate);
  const leaves = [], end = performance.now() + milliseconds;
  for (let depth = 0; depth < 3; depth++) {
    const best = current.reduce((high, { log }) => Math.max(high, log), -Infinity);
    const high = current.filter(({ log }) => log > best - DEEP);
    const isFine = high.filter(({ log }) => log > best - 2).length > 24;
    if (depth === 2 || depth && isFine) {
      leaves.push(...current);
      break;
    }
    const parts = [];
    for (const node of current) {
      if (node.log <= best - DEEP) leaves.push(node);
      else if (!node.parts && performance.now() > end) {
        isExact = false;
        leaves.push(node);
      } else {
        node.parts ??= divided(node, model);
        parts.push(...node.parts);
      }
    }
    parts.forEach(evaluate);
    current = parts;
  }
  const highest = leaves.reduce((high, { log }) => Math.max(high, log), -Infinity);
  const mass = leaves.filter(({ log }) => log > highest - DEEP);
  const sum = mass.reduce((total, { log, size }) =>
    total + size ** 2 * Math.exp(log - highest), 0);
  return { logEvidence: highest + Math.log(sum), squares: mass, highest, isExact };
}
