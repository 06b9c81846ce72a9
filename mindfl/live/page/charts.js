// Curves (uPlot), in the colours of the style sheet. A chart is made when it first has data, and again when the colours change.

import { byId } from "./words.js";

const charts = new Set();
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class Chart {
  // series: [{label, colour: "--avg", dash, value: number -> text, steps, fill}]
  constructor(id, series, { axis, least = null, most = null, unit = "round", wholeX = true, high = null }) {
    Object.assign(this, { place: byId(id), series, axis, least, most, unit, wholeX, high, data: null, plot: null, seen: false, late: false });
    charts.add(this);
    new ResizeObserver(([{ contentRect: { width, height } }]) => this.fit(width, height)).observe(this.place);
    // A curve that is out of sight is drawn when it comes into sight.
    new IntersectionObserver((entries) => {
      this.seen = entries.at(-1).isIntersecting;
      if (this.seen && this.late) this.show();
    }, { rootMargin: "200px" }).observe(this.place);
  }

  set(data) {
    this.data = data;
    if (this.seen && this.width) this.show();
    else this.late = true;
  }

  show() {
    this.late = false;
    if (this.plot) this.plot.setData(this.data);
    else if (this.data?.[0].length) this.make();
  }

  clear() {
    this.plot?.destroy();
    this.plot = null;
  }

  empty() {
    this.clear();
    Object.assign(this, { data: null, late: false });
  }

  replace(series, options) {
    Object.assign(this, { series, ...options });
    this.clear();
  }

  fit(width, height) {
    Object.assign(this, { width, height: this.high ?? height - 34 });
    if (!width) return;
    if (this.plot) this.plot.setSize({ width, height: this.height });
    else if (this.seen && this.late) this.show();
  }

  make() {
    const axes = { stroke: style("--soft"), font: "12px system-ui, sans-serif", grid: { stroke: style("--grid"), width: 1 }, ticks: { show: false } };
    const whole = (plot, splits) => splits.map((at) => (Number.isInteger(at) ? String(at) : ""));
    this.plot = new uPlot({
      width: this.width,
      height: this.height,
      padding: [12, 14, 0, 0],
      scales: {
        x: { time: false, range: (plot, from, to) => (from === to ? [from - 1, to + 1] : [from, to]) },
        y: { range: (plot, from, to) => this.range(from, to) },
      },
      axes: [
        { ...axes, size: 30, ...(this.wholeX ? { values: whole } : {}) },
        { ...axes, size: 62, values: (plot, splits) => splits.map(this.axis) },
      ],
      cursor: { drag: { x: false, y: false }, points: { size: 7 }, focus: { prox: this.series.length > 3 ? 24 : -1 } },
      focus: { alpha: 0.25 },
      series: [
        { label: this.unit },
        ...this.series.map((each) => ({
          label: each.label,
          stroke: style(each.colour),
          width: 2,
          dash: each.dash,
          spanGaps: true,
          fill: each.fill ? style(each.colour) + "26" : undefined,
          paths: each.steps ? uPlot.paths.stepped({ align: 1 }) : undefined,
          points: { show: (plot) => !each.steps && plot.data[0].length < 40, size: 5, fill: style(each.colour) },
          value: (plot, value) => (value == null ? "–" : each.value(value)),
        })),
      ],
    }, this.data, this.place);
  }

  range(from, to) {
    if (from == null || to == null) return [0, 1];
    const space = (to - from || Math.abs(to) || 1) * 0.06;
    return [this.least ?? from - space, this.most != null && to <= this.most ? Math.min(to + space, this.most) : to + space];
  }
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const chart of charts) {
    const drawn = chart.plot;
    chart.clear();
    if (drawn) chart.make();
  }
});
