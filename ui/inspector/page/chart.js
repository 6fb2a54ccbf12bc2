// The chart of the status page, drawn with uPlot: deliveries by state as stacked bars, handling time as lines.

import uPlot from "./vendor/uplot/uPlot.esm.js";
import { states } from "./deliveries.js";
import { count, duration } from "./format.js";

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// stacked returns each series added to the sum of those before it.
function stacked(series) {
  const sums = series[0].map(() => 0);
  return series.map((values) => values.map((v, i) => (sums[i] += v)));
}

const axis = (extra = {}) => ({
  stroke: color("--soft"),
  grid: { stroke: color("--line"), width: 1 },
  ticks: { stroke: color("--line"), width: 1 },
  font: "12px system-ui, sans-serif",
  ...extra,
});

const tick = (ms) => (ms < 1000 ? `${ms} ms` : `${ms / 1000} s`);

const clock = (seconds) => {
  const at = new Date(seconds * 1000);
  return `${String(at.getHours()).padStart(2, "0")}:${String(at.getMinutes()).padStart(2, "0")}`;
};

const common = (width, height) => ({
  width,
  height,
  cursor: { sync: { key: "inspector" }, drag: { x: false, y: false }, y: false },
  legend: { live: true },
  padding: [8, 20, 0, 0],
});

// The last step is as wide as the others.
const timeScale = (times, step) => ({ time: false, range: [times[0], times.at(-1) + step / 1000] });

const hour = 3600; // s

// timeTicks returns round times in the local time zone, at most one for each 80 pixels.
function timeTicks(u, axis, from, to) {
  const most = Math.max(2, Math.floor(u.width / 80));
  const apart = [300, 600, 900, 1800, hour, 2 * hour, 3 * hour, 6 * hour, 12 * hour, 24 * hour].find((s) => (to - from) / s <= most) ?? 24 * hour;
  const zone = new Date(from * 1000).getTimezoneOffset() * 60;
  const ticks = [];
  for (let t = Math.ceil((from - zone) / apart) * apart + zone; t <= to; t += apart) ticks.push(t);
  return ticks;
}

// powers returns the powers of ten in a range.
function powers(u, axis, from, to) {
  const ticks = [];
  for (let v = 10 ** Math.ceil(Math.log10(from)); v <= to; v *= 10) ticks.push(v);
  return ticks;
}

const timeAxis = () => axis({ splits: timeTicks, values: (u, splits) => splits.map(clock) });
const timeSeries = (step) => ({ label: "time", value: (u, t) => (t == null ? "–" : `${clock(t)}–${clock(t + step / 1000)}`) });

// Charts are the two charts of one answer of /api/series, in an element.
export class Charts {
  #element;
  #plots = [];
  #series = null;
  #scheme = matchMedia("(prefers-color-scheme: dark)");
  #observer = new ResizeObserver(() => this.#resize());
  #redraw = () => this.#draw();

  constructor(element) {
    this.#element = element;
    this.#observer.observe(element);
    this.#scheme.addEventListener("change", this.#redraw);
  }

  show(series) {
    if (series === this.#series) return;
    this.#series = series;
    this.#draw();
  }

  destroy() {
    this.#observer.disconnect();
    this.#scheme.removeEventListener("change", this.#redraw);
    for (const p of this.#plots) p.destroy();
    this.#plots = [];
  }

  #width() {
    return Math.max(240, Math.floor(this.#element.clientWidth));
  }

  #resize() {
    for (const p of this.#plots) if (p.width !== this.#width()) p.setSize({ width: this.#width(), height: p.height });
  }

  #draw() {
    for (const p of this.#plots) p.destroy();
    this.#plots = [];
    if (this.#series) this.#plots = [this.#deliveries(), this.#durations()];
  }

  #deliveries() {
    const { times, states: byState, step_ms: step } = this.#series;
    const shown = states.filter((s) => byState[s]?.some((n) => n > 0));
    const names = shown.length ? shown : ["done"];
    const values = names.map((s) => byState[s] ?? times.map(() => 0));
    // The highest sum is drawn first, so that the lower ones are in front.
    const sums = stacked(values).reverse();
    const order = [...names].reverse();
    const real = [...values].reverse();
    return new uPlot({
      ...common(this.#width(), 190),
      scales: { x: timeScale(times, step), y: { range: (u, min, max) => [0, Math.max(4, max * 1.08)] } },
      axes: [timeAxis(), axis({ size: 66, values: (u, splits) => splits.map((v) => (Number.isInteger(v) ? count(v) : "")) })],
      series: [timeSeries(step), ...order.map((name, i) => ({
        label: name,
        fill: color(`--${name}`),
        paths: uPlot.paths.bars({ size: [0.8, 40], align: 1 }),
        width: 0,
        points: { show: false },
        value: (u, v, s, at) => (at == null ? "–" : count(real[i][at])),
      }))],
    }, [times, ...sums], this.#element);
  }

  #durations() {
    const { times, duration_ms: d, step_ms: step } = this.#series;
    const line = (label, name, dash) => ({
      label,
      stroke: color(name),
      width: 2,
      dash,
      spanGaps: false,
      points: { show: true, size: 5, fill: color(name) },
      value: (u, v) => (v == null ? "–" : duration(v)),
    });
    return new uPlot({
      ...common(this.#width(), 160),
      scales: { x: timeScale(times, step), y: { distr: 3, range: (u, min, max) => [(min ?? 1) / 1.5, Math.max(10, (max ?? 10) * 1.5)] } },
      axes: [timeAxis(), axis({ size: 66, splits: powers, filter: (u, splits) => splits, values: (u, splits) => splits.map(tick) })],
      series: [timeSeries(step), line("median", "--accent"), line("95 %", "--running", [6, 4]), line("longest", "--dead", [2, 3])],
      // 0 has no logarithm.
    }, [times, ...[d.p50, d.p95, d.max].map((values) => values.map((v) => (v === null ? null : Math.max(0.001, v))))], this.#element);
  }
}
