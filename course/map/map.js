// ---------------------------------------------------------------- the map
// `ground` holds what does not move: plane, density, circles, marks. A frame copies it
// and adds what moves: the picked garment's cloud, draws, the point under the pointer.

const state = {
  model: null,
  z: [],  // the code whose image is shown large
  point: [0, 0],  // that code on the plane
  isOff: false,  // whether the code itself is off the plane
  hidden: new Set(),  // classes
  draws: [],  // codes from N(0, I)
  path: [],  // points of the plane
  image: new Float32Array(784),  // what is encoded
  picked: 0,  // the garment that it is, or was before it was changed
  measured: null,  // `measure` of the image
  posterior: null,  // `truePosterior` of the image, in a VAE with two dimensions
  moves: true,  // the ring moves by itself, until the first touch
};
const TILES = 20;  // the decoded plane has so many images along each side
const ground = document.createElement("canvas");
const map = part.map.getContext("2d");

function place([u, v], size = ground.width, { middle, half } = state.model) {
  return [(u - middle[0] + half) / (2 * half) * size,  // from the plane to the canvas
    (middle[1] + half - v) / (2 * half) * size];
}
function pointAt(x, y) {  // from the page's pixels to the plane
  const box = part.map.getBoundingClientRect(), { middle, half } = state.model;
  return [middle[0] + half * (2 * (x - box.left) / box.width - 1),
    middle[1] + half * (1 - 2 * (y - box.top) / box.height)];
}
const isShown = i => !state.hidden.has(page.labels[i]);

// Garments are ordered by their distance from a point of the plane.
function nearestOnMap([u, v], count) {
  const { points } = state.model, found = [];
  points.forEach(([x, y], i) => {
    if (isShown(i)) found.push([Math.hypot(x - u, y - v), i]);
  });
  return found.sort((a, b) => a[0] - b[0]).slice(0, count);
}

const plural = name => {
  const word = name.split("/")[0];
  const lower = word[1] === "-" ? word : word.toLowerCase();
  return lower + (lower.endsWith("s") ? "es" : "s");
};
function isGap(point, model = state.model) {
  const { gaps, gapsAlong: n } = model, [x, y] = place(point, n, model);
  return gaps[Math.floor(y) * n + Math.floor(x)] === 1;
}
// What is near a code: by the codes themselves, since the plane shows two directions.
function inWords(z) {
  const { model } = state, counts = new Map(), near = new Map();
  for (const [distance, i] of nearestCodes(model, z, 12, isShown))
    for (const map of distance < model.near ? [counts, near] : [counts])
      map.set(page.labels[i], (map.get(page.labels[i]) || 0) + 1);
  const names = [...(near.size ? near : counts)].sort((a, b) => b[1] - a[1])
    .filter(([, count], k) => k === 0 || k === 1 && count >= 3)
    .map(([label]) => plural(page.classes[label])).join(" and ");
  if (!names) return "no garments are shown";
  return near.size ? `near ${names}` : `far from all garments; ${names} are nearest`;
}

function grey(context, image, left = 0, top = 0) {
  const pixels = context.createImageData(28, 28);
  for (let i = 0; i < 784; i++) {
    pixels.data.fill(255 * image[i] + 0.5, 4 * i, 4 * i + 3);
    pixels.data[4 * i + 3] = 255;
  }
  context.putImageData(pixels, left, top);
}

// The decoded plane, a few images at a time so that the page stays responsive.
function decodePlane(model) {
  if (!model.tiles) {
    model.tiles = document.createElement("canvas");
    model.tiles.width = model.tiles.height = 28 * TILES;
    model.decoded = model.painted = 0;
  }
  const context = model.tiles.getContext("2d"), { middle, half } = model;
  const at = i => half * ((2 * i + 1) / TILES - 1), start = performance.now();
  while (model.decoded < TILES ** 2 && performance.now() < start + 6) {
    const column = model.decoded % TILES, row = Math.floor(model.decoded++ / TILES);
    const z = fromPlane(model, [middle[0] + at(column), middle[1] - at(row)]);
    grey(context, decode(model, z), 28 * column, 28 * row);
  }
  const isDone = model.decoded === TILES ** 2;
  if (isDone || start > model.painted + 250) {
    model.painted = start;
    if (model === state.model) paintGround();
  }
  if (!isDone) requestAnimationFrame(() => decodePlane(model));
}

function paintDensity(context) {
  const { crowd, gaps, gapsAlong: n } = state.model, size = ground.width;
  const small = document.createElement("canvas");
  small.width = small.height = n;
  const pixels = new ImageData(n, n), colour = style.crowd.split(",").map(Number);
  crowd.forEach((value, i) => pixels.data.set([...colour, 0.8 * value], 4 * i));
  small.getContext("2d").putImageData(pixels, 0, 0);
  context.imageSmoothingEnabled = true;
  context.drawImage(small, 0, 0, size, size);
  context.save();
  context.beginPath();
  gaps.forEach((gap, i) => {
    if (gap) context.rect(i % n * size / n, Math.floor(i / n) * size / n,
      size / n + 0.5, size / n + 0.5);
  });
  context.clip();
  context.beginPath();
  for (let x = -size; x < size; x += 7 * ratio()) {
    context.moveTo(x, size);
    context.lineTo(x + size, 0);
  }
  context.strokeStyle = style.ink;
  context.lineWidth = ratio();
  context.stroke();
  context.restore();
}

function paintGround() {
  const { model } = state, size = ground.width, context = ground.getContext("2d");
  if (!size) return;
  const scale = ratio(), unit = size / (2 * model.half), r = Math.min(3.4 * scale, size / 170);
  context.fillStyle = style.paper;
  context.fillRect(0, 0, size, size);
  context.imageSmoothingEnabled = false;
  if (part.plane.checked && model.tiles) context.drawImage(model.tiles, 0, 0, size, size);
  if (part.density.checked) paintDensity(context);
  const [x0, y0] = place(model.origin);
  context.font = `${12 * scale}px system-ui, sans-serif`;
  for (const sd of [1, 2, 3]) {
    outlined(context, () => circle(context, x0, y0, sd * unit), scale);
    if (unit > 16 * scale || sd === 3)
      write(context, `${sd} sd`, x0, y0 - sd * unit - 9 * scale, scale);
  }
  context.globalAlpha = part.density.checked ? 0.35 : part.plane.checked ? 0.6 : 1;
  page.classes.forEach((_, label) => {
    context.beginPath();
    model.points.forEach((point, i) => {
      if (page.labels[i] === label && isShown(i))
        circle(context, ...place(point), r);
    });
    context.fillStyle = COLOURS[label];
    context.strokeStyle = part.plane.checked ? "#fff" : style.ink;
    context.lineWidth = 0.5 * scale;
    context.fill();
    context.stroke();
  });
  context.globalAlpha = 1;
  paintNames(context, scale);
  paint();
}

function paintNames(context, scale) {  // at the middle of each class
  const names = page.classes.flatMap((name, label) => {
    const own = state.model.points.filter((_, i) => page.labels[i] === label);
    if (!own.length || state.hidden.has(label)) return [];
    const [x, y] = place([0, 1].map(k => median(own.map(point => point[k]))));
    return [{ name, x, y }];
  });
  writeNames(context, names, ground.width, scale);
}

function outlined(context, draw, width) {  // dark on light, seen on any ground
  for (const [colour, extra] of [[style.paper, 2], [style.ink, 0]]) {
    context.beginPath();
    draw();
    context.strokeStyle = colour;
    context.lineWidth = width + extra;
    context.stroke();
  }
}

// The image's cloud, at one and two standard deviations.
function drawCloud(context, [x, y], unit, width) {
  const [xx, xy, yy] = onPlane(state.model, state.measured.logVar);
  const middle = (xx + yy) / 2, off = Math.hypot((xx - yy) / 2, xy);
  const turn = -0.5 * Math.atan2(2 * xy, xx - yy);
  for (const sd of [1, 2])
    outlined(context, () => context.ellipse(x, y, sd * unit * Math.sqrt(middle + off),
      sd * unit * Math.sqrt(Math.max(middle - off, 0)), turn, 0, 2 * Math.PI), width);
}

// The true posterior's squares; `toXY` leads from the plane to the canvas.
function drawPosterior(context, toXY, unit) {
  const { squares, highest } = state.posterior;
  for (const { z, size, log } of squares) {
    const [x, y] = toXY(z), side = size * unit;
    context.fillStyle = `rgba(255, 40, 120, ${0.9 * Math.exp((log - highest) / 2)})`;
    context.fillRect(x - side / 2, y - side / 2, side, side);
  }
}

function paintZoom() {  // the posterior magnified
  const context = part.zoom.getContext("2d"), { squares, highest } = state.posterior;
  const { mean, logVar } = state.measured, sd = Math.exp(Math.max(...logVar) / 2);
  const seen = squares.filter(({ log }) => log > highest - 6).map(({ z }) => z);
  const corners = [...seen, ...[-2.5, 2.5].map(k => [mean[0] + k * sd, mean[1] + k * sd])];
  const low = [0, 1].map(k => Math.min(...corners.map(z => z[k])));
  const high = [0, 1].map(k => Math.max(...corners.map(z => z[k])));
  const unit = 180 / Math.max(high[0] - low[0], high[1] - low[1]);
  const toXY = ([u, v]) => [98 + unit * (u - (low[0] + high[0]) / 2),
    98 - unit * (v - (low[1] + high[1]) / 2)];
  context.fillStyle = style.paper;
  context.fillRect(0, 0, 196, 196);
  drawPosterior(context, toXY, unit);
  drawCloud(context, toXY(mean), unit, 1);
}

// On a phone the decoded image is in a corner of the map, away from ring and finger.
function paintBubble(x, y, scale) {
  const size = ground.width, side = Math.min(112 * scale, 0.27 * size);
  const edge = 4 * scale, left = x < size / 2 ? size - side - edge : edge;
  if (part.picture.offsetParent === null) {
    map.fillStyle = style.ink;
    map.fillRect(left - edge / 2, edge / 2, side + edge, side + edge);
    map.imageSmoothingEnabled = false;
    map.drawImage(part.picture, left, edge, side, side);
  }
  if (!state.moves) return;
  map.font = `600 ${15 * scale}px system-ui, sans-serif`;
  write(map, "Drag me", Math.min(Math.max(x, 40 * scale), size - 40 * scale),
    Math.min(y + 24 * scale, size - 10 * scale), scale);
}

function paint() {  // a frame
  const scale = ratio(), unit = ground.width / (2 * state.model.half);
  const { measured, path, model } = state;
  const outline = (draw, width) => outlined(map, draw, width * scale);
  map.drawImage(ground, 0, 0);
  if (state.posterior) drawPosterior(map, place, unit);
  for (const z of state.draws)
    outline(() => cross(map, ...place(toPlane(model, z)), 5 * scale), 2);
  if (path.length > 1) outline(() => path.forEach(at => map.lineTo(...place(at))), 2);
  if (measured) {
    const [x, y] = place(toPlane(model, measured.mean));
    if (measured.logVar) drawCloud(map, [x, y], unit, 1.5 * scale);
    outline(() => map.rect(x - 5 * scale, y - 5 * scale, 10 * scale, 10 * scale), 1.5);
  }
  const [x, y] = place(state.point);  // a hollow ring, if the code is elsewhere
  map.setLineDash(state.isOff ? [4 * scale, 4 * scale] : []);
  outline(() => circle(map, x, y, 8 * scale), 2.5);
  map.setLineDash([]);
  paintBubble(x, y, scale);
}

