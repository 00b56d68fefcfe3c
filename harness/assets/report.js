"use strict";
(() => {
  const data = JSON.parse(document.getElementById("series").textContent);
  const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const alpha = (colour, a) => {
    const n = parseInt(colour.slice(1), 16);
    return `rgba(${n >> 16 & 255}, ${n >> 8 & 255}, ${n & 255}, ${a})`;
  };

  // Draws within the plot area only.
  const clipped = (u, draw) => {
    const { ctx, bbox } = u;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    draw(ctx, bbox.top, bbox.height, devicePixelRatio);
    ctx.restore();
  };
  const eachFault = (u, draw) => {
    const left = u.bbox.left, right = left + u.bbox.width;
    for (const fault of data.faults) {
      const from = Math.max(u.valToPos(fault.from, "x", true), left);
      const to = Math.min(u.valToPos(fault.to, "x", true), right);
      if (to > from) draw(fault, from, to);
    }
  };

  // Fault bands behind the data, each with its name at the top, on as many lines as needed.
  const bands = {
    hooks: {
      // Bands lie under the grid, their labels over it.
      drawClear: u => clipped(u, (ctx, top, height, ratio) => {
        eachFault(u, (fault, from, to) => {
          ctx.fillStyle = css("--fault-band");
          ctx.fillRect(from, top, to - from, height);
          ctx.fillStyle = css("--fault");
          ctx.fillRect(from, top, Math.max(1, ratio), height);
        });
      }),
      draw: u => clipped(u, (ctx, top, height, ratio) => {
        ctx.font = `${11 * ratio}px system-ui, sans-serif`;
        ctx.textAlign = "left";
        ctx.textBaseline = "top";
        ctx.fillStyle = css("--fault");
        const ends = [];
        eachFault(u, (fault, from) => {
          const width = ctx.measureText(fault.label).width + 10 * ratio;
          const start = Math.min(from + 4 * ratio, u.bbox.left + u.bbox.width - width);
          let line = ends.findIndex(end => end <= start);
          if (line < 0) line = ends.length;
          if (line > 3) return;
          ends[line] = start + width;
          ctx.fillText(fault.label, start, top + (3 + 13 * line) * ratio);
        });
      }),
    },
  };

  const sync = uPlot.sync("run");
  const axis = more => ({
    stroke: () => css("--soft"),
    grid: { stroke: () => css("--grid"), width: 1 },
    ticks: { stroke: () => css("--grid"), width: 1 },
    font: "12px system-ui, sans-serif",
    ...more,
  });
  const seconds = { label: "time", value: (_, v) => v == null ? "–" : v.toFixed(2) + " s" };
  const shown = unit => (_, v) => v == null ? "–" : v.toLocaleString("en", { maximumFractionDigits: v < 10 ? 2 : 0 }) + unit;
  const line = (label, name, unit, more) => ({
    label, stroke: () => css(name), width: 1.75, points: { show: false }, value: shown(unit), ...more,
  });
  const base = (element, height) => ({
    width: element.clientWidth,
    height,
    cursor: { sync: { key: sync.key }, drag: { x: true, y: false } },
    plugins: [bands],
  });
  const xAxis = () => axis({ values: (_, ticks) => ticks.map(t => t + " s") });

  const throughput = element => new uPlot({
    ...base(element, 260),
    scales: { x: { time: false }, y: { range: (_, __, max) => [0, Math.max(1, max * 1.25)] } },
    axes: [xAxis(), axis({ size: 64 })],
    series: [
      seconds,
      line("ok/s", "--ok", "", { fill: () => alpha(css("--ok"), .12) }),
      line("fail/s", "--fail", "", { dash: [2, 2] }),
      line("unknown/s", "--info", "", { dash: [6, 3] }),
    ],
  }, [data.t, data.ok, data.fail, data.info], element);

  const latency = element => new uPlot({
    ...base(element, 240),
    scales: {
      x: { time: false },
      y: { distr: 3, range: (_, min, max) => min == null ? [1, 10] : [10 ** Math.floor(Math.log10(min)), 10 ** Math.ceil(Math.log10(max) + .35)] },
    },
    axes: [xAxis(), axis({
      size: 64,
      values: (_, ticks) => ticks.map(t => t == null || Math.abs(Math.log10(t) % 1) > 1e-9 ? "" : t >= 1000 ? t / 1000 + " s" : t + " ms"),
    })],
    series: [seconds, line("median", "--p50", " ms"), line("p99", "--p99", " ms", { dash: [6, 3] })],
  }, [data.t, data.p50, data.p99], element);

  const places = [["throughput", throughput], ["latency", latency]];
  let charts = [];
  const draw = () => {
    for (const chart of charts) chart.destroy();
    charts = places.flatMap(([id, make]) => {
      const element = document.getElementById(id);
      return element ? [make(element)] : [];
    });
  };
  draw();
  addEventListener("resize", () => {
    for (const chart of charts) chart.setSize({ width: chart.root.parentNode.clientWidth, height: chart.height });
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

  const copy = document.querySelector(".copy");
  if (copy && navigator.clipboard) {
    copy.hidden = false;
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById("command").textContent);
      copy.textContent = "copied";
    });
  }
})();
