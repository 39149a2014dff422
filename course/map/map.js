// ---------------------------------------------------------------- the map
// `ground` holds what does not move: plane, circles, marks, names. A frame copies it and
// adds what moves: the picked garment's cloud, draws, the point under the pointer.

const state = {
  model: null,
  z: [],  // the code whose image is shown large
  point: [0, 0],  // that code on the plane
  isOff: false,  // whether the code itself is off the plane
  draws: [],  // codes from N(0, I), or from the image's cloud
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
let names = [];  // the boxes of the names on the ground

function place([u, v]) {  // from the plane to the canvas
  const { middle, half } = state.model, unit = ground.width / (2 * half);
  return [unit * (u - middle[0] + half), unit * (middle[1] + half - v)];
}
function pointAt({ clientX, clientY }) {  // from an event to the plane
  const box = part.map.getBoundingClientRect(), { middle, half } = state.model;
  return [middle[0] + half * (2 * (clientX - box.left) / box.width - 1),
    middle[1] + half * (1 - 2 * (clientY - box.top) / box.height)];
}
// What is near a code: by the codes themselves, since the plane shows two directions.
function inWords(z) {
  const { garments, near } = state.model, found = nearest(garments, z, 12);
  const close = found.filter(([distance]) => distance < near), counts = new Map();
  for (const [, i] of close.length ? close : found)
    counts.set(page.labels[i], (counts.get(page.labels[i]) ?? 0) + 1);
  const classes = [...counts].sort((a, b) => b[1] - a[1])
    .filter(([, count], k) => k === 0 || k === 1 && count >= 3)
    .map(([label]) => page.classes[label]).join(", ");
  return close.length ? `near: ${classes}` : `far from all garments; nearest: ${classes}`;
}

function grey(context, image, left = 0, top = 0) {
  const pixels = context.createImageData(28, 28);
  for (let i = 0; i < 784; i++) {
    pixels.data.fill(255 * image[i] + 0.5, 4 * i, 4 * i + 3);
    pixels.data[4 * i + 3] = 255;
  }
  context.putImageData(pixels, left, top);
}

// The decoded plane, half a row at a time so that the page stays responsive.
function decodePlane(model, first = 0) {
  model.tiles ??= Object.assign(document.createElement("canvas"),
    { width: 28 * TILES, height: 28 * TILES });
  const context = model.tiles.getContext("2d"), { middle, half } = model;
  const at = i => half * ((2 * i + 1) / TILES - 1), end = first + TILES / 2;
  for (let i = first; i < end; i++) {
    const column = i % TILES, row = Math.floor(i / TILES);
    const z = fromPlane(model, [middle[0] + at(column), middle[1] - at(row)]);
    grey(context, decode(model, z), 28 * column, 28 * row);
  }
  if (model === state.model && end % (5 * TILES) === 0) paintGround();
  if (end < TILES ** 2) requestAnimationFrame(() => decodePlane(model, end));
}

function paintGround() {
  const { model } = state, size = ground.width, context = ground.getContext("2d");
  if (!size) return;
  const scale = ratio(), unit = size / (2 * model.half), r = Math.min(3.4 * scale, size / 170);
  context.fillStyle = style.paper;
  context.fillRect(0, 0, size, size);
  context.imageSmoothingEnabled = false;
  if (part.plane.checked) context.drawImage(model.tiles, 0, 0, size, size);
  const [x0, y0] = place(model.origin);
  context.font = `${12 * scale}px system-ui, sans-serif`;
  for (const sd of [1, 2, 3]) {
    outlined(context, () => circle(context, x0, y0, sd * unit), scale);
    if (unit > 16 * scale || sd === 3)
      write(context, `${sd} sd`, x0, y0 - sd * unit - 9 * scale, scale);
  }
  context.globalAlpha = part.plane.checked ? 0.6 : 1;
  page.classes.forEach((_, label) => {
    context.beginPath();
    model.points.forEach((point, i) => {
      if (page.labels[i] === label) circle(context, ...place(point), r);
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
  const wanted = state.model.middles.map((middle, label) => {
    const [x, y] = place(middle);
    return { name: page.classes[label], x, y };
  });
  names = writeNames(context, wanted.filter(({ x }) => !isNaN(x)), ground.width, scale);
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
function paintZoom() {  // it magnified, around the encoder's cloud
  const context = part.zoom.getContext("2d"), { squares, highest } = state.posterior;
  const { mean, logVar } = state.measured;
  const seen = squares.filter(({ log }) => log > highest - 6).map(({ z }) =>
    Math.max(Math.abs(z[0] - mean[0]), Math.abs(z[1] - mean[1])));
  const unit = 90 / Math.max(...seen, 2.5 * Math.exp(Math.max(...logVar) / 2));
  context.fillStyle = style.paper;
  context.fillRect(0, 0, 196, 196);
  drawPosterior(context, ([u, v]) =>
    [98 + unit * (u - mean[0]), 98 - unit * (v - mean[1])], unit);
  drawCloud(context, [98, 98], unit, 1);
}

// Until the first touch: "Drag me" at the ring, on no name. On a phone the decoded image
// is in a corner of the map, away from ring and finger.
function paintBeside(x, y, scale) {
  const size = ground.width, side = Math.min(112 * scale, 0.27 * size);
  const edge = 4 * scale, left = x < size / 2 ? size - side - edge : edge;
  const taken = [...names, { x, y, width: 24 * scale, height: 24 * scale }];
  if (part.picture.offsetParent === null) {
    map.fillStyle = style.ink;
    map.fillRect(left - edge / 2, edge / 2, side + edge, side + edge);
    map.imageSmoothingEnabled = false;
    map.drawImage(part.picture, left, edge, side, side);
    taken.push({ x: left + side / 2, y: side / 2, width: side, height: side + 3 * edge });
  }
  if (state.moves)
    writeNames(map, [{ name: "Drag me", x, y: y + 20 * scale }], size, scale, taken);
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
  paintBeside(x, y, scale);
}
