"use strict";

// Small plots of the recent past, on canvases.

const SHORT = 40;        // The width of a plot in frames, while there are fewer.

const number = value => value == null ? "–"
  : value.toFixed(Math.abs(value) < 100 ? 3 : 1).replace(/^-(0\.0+)$/, "$1");

// Draw a row of values for each side; `episodes` says which episode each of them is from.
function drawLines(canvas, sides, rows, episodes, range) {
  const ratio = devicePixelRatio;
  const [width, height] = [canvas.clientWidth * ratio, canvas.clientHeight * ratio];
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, {width, height});
  const colors = getComputedStyle(canvas);
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  const count = Math.max(episodes.length, SHORT);
  const values = rows.flat().filter(value => value != null);
  let [low, high] = range ?? [Math.min(0, ...values), Math.max(0, ...values)];
  [low, high] = [Math.min(low, ...values), Math.max(high, ...values)];
  // Noise shall look like noise.
  if (high - low < 0.2) [low, high] = [(low + high) / 2 - 0.1, (low + high) / 2 + 0.1];
  const left = 46 * ratio, pad = 7 * ratio;
  const x = i => left + (width - left - pad) * i / (count - 1);
  const y = value => height - pad - (height - 2 * pad) * (value - low) / (high - low);
  context.font = `${10 * ratio}px system-ui, sans-serif`;
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const tick of new Set([low, high, ...(low <= 0 && high >= 0 ? [0] : [])])) {
    if (tick === 0 && Math.min(y(low) - y(0), y(0) - y(high)) < 11 * ratio
        && low < 0 && high > 0) continue;
    context.fillStyle = colors.getPropertyValue("--soft");
    context.fillText(Number(tick.toPrecision(2)), left - 6 * ratio, y(tick));
    context.fillStyle = colors.getPropertyValue("--line");
    context.fillRect(left, Math.round(y(tick)), width - left - pad, Math.max(1, ratio / 2));
  }
  context.fillStyle = colors.getPropertyValue("--soft");
  const begins = i => i > 0 && episodes[i] !== episodes[i - 1];
  episodes.forEach((_, i) => {
    if (begins(i)) context.fillRect(Math.round((x(i) + x(i - 1)) / 2), pad, 1, height - 2 * pad);
  });
  // The dream is drawn last, on top.
  for (let side = sides.length - 1; side >= 0; side--) {
    const row = rows[side];
    context.strokeStyle = context.fillStyle = colors.getPropertyValue(`--${sides[side]}`);
    context.lineWidth = 1.75 * ratio;
    context.lineJoin = "round";
    context.beginPath();
    let pen = false;
    row.forEach((value, i) => {
      if (begins(i)) pen = false;
      if (value == null) pen = false;
      else if (pen) context.lineTo(x(i), y(value));
      else { context.moveTo(x(i), y(value)); pen = true; }
    });
    context.stroke();
    const last = row.at(-1);
    if (last != null) {
      context.beginPath();
      context.arc(x(row.length - 1), y(last), 2.5 * ratio, 0, 7);
      context.fill();
    }
  }
}
