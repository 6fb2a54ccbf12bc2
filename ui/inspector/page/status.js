// The status of hubhook: the tunnel and its history, URLs to copy, counts, and the chart.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { ref } from "./vendor/lit-html/directives/ref.js";
import { getSeries, getStatus, getTunnel } from "./api.js";
import { noFilter, states } from "./deliveries.js";
import { ago, count, duration, moment, plural } from "./format.js";
import { copyButton, endpointURLs, outside, problem, webhookSettings, when } from "./parts.js";
import { link, redraw, state } from "./store.js";
import { followed } from "./followed.js";
import { allKept, webhooks } from "./webhooks.js";

const apart = 1000; // ms between two requests for the status, however much happens
const chartAge = 10_000; // ms after which the chart is fetched again

let timer = null;
let last = -Infinity;

// loadStatus fetches the status soon, once for all calls until then.
export function loadStatus() {
  if (timer !== null) return;
  timer = setTimeout(async () => {
    last = performance.now();
    try {
      state.status = await getStatus();
      state.statusError = null;
    } catch (e) {
      state.statusError = e;
    }
    timer = null;
    redraw();
  }, Math.max(0, last + apart - performance.now()));
}

export async function loadTunnel() {
  try {
    state.tunnel = (await getTunnel()).changes;
    tunnelError = null;
  } catch (e) {
    tunnelError = e;
  }
  redraw();
}

let tunnelError = null;
let period = "1h";
let series = null;
let seriesError = null;
let seriesAge = -Infinity;
let charts = null;
let polling = null;

async function loadSeries() {
  seriesAge = performance.now();
  const asked = `${period} ${state.route.filter.endpoint}`;
  try {
    const answer = await getSeries(period, state.route.filter.endpoint);
    if (asked !== `${period} ${state.route.filter.endpoint}`) return;
    series = answer;
    seriesError = null;
  } catch (e) {
    seriesError = e;
  }
  redraw();
}

// enterStatus and leaveStatus are called when the view is opened and left.
export function enterStatus() {
  loadTunnel();
  loadStatus();
  loadSeries();
  clearInterval(polling);
  polling = setInterval(() => {
    loadStatus();
    if (!document.hidden && performance.now() - seriesAge >= chartAge) loadSeries();
  }, 5000);
}

export function leaveStatus() {
  clearInterval(polling);
}

function hold(element) {
  charts?.destroy();
  charts = element ? new Charts(element) : null;
  if (charts && series) charts.show(series);
}

let Charts = null;

// The plotting library is fetched when the first chart is wanted.
async function loadCharts() {
  ({ Charts } = await import("./chart.js"));
  redraw();
}

export const phaseClass = (phase) => ({ online: "good", reachable: "good", failed: "bad", stopped: "bad", unreachable: "bad" })[phase] ?? "busy";

// lastCheck says what the last check of the public URL proved. If this machine could not ask, the check proved nothing.
function lastCheck({ ok, error, time }) {
  const checks = ["reachable", "unreachable", "unchecked"];
  const unchecked = !ok && state.tunnel.find((c) => checks.includes(c.phase))?.phase === "unchecked";
  const verdict = ok ? html`<span class="good">reachable</span>`
    : unchecked ? `can’t be checked from here (${error})` : html`<span class="bad">${error || "not reachable"}</span>`;
  return html`<p class="quiet">Last check of the public way: ${verdict}, ${when(time)}</p>`;
}

function tunnelCard() {
  const { tunnel, addresses } = state.status;
  if (!tunnel) {
    return html`<p>${addresses.public ? html`No tunnel: something else forwards from ${outside(addresses.public, addresses.public)}.` : "No tunnel: these addresses work on this machine, or on its network."}</p>`;
  }
  return html`
    <p><span class="dot ${phaseClass(tunnel.phase)}"></span> <strong>${tunnel.phase}</strong> <span class="quiet">${tunnel.provider}, since ${when(tunnel.since)} (${ago(tunnel.since)})</span></p>
    ${tunnel.url ? html`<p class="url"><code>${tunnel.url}</code>${copyButton(tunnel.url, "the public URL")}</p>` : nothing}
    ${tunnel.error ? html`<p class="bad">${tunnel.error}</p>` : nothing}
    ${tunnel.last_probe ? lastCheck(tunnel.last_probe) : nothing}`;
}

const loops = (list) => list.map((l) => html`
  <section class="card warning" role="alert" aria-label="Loop"><p><strong>${l.text}</strong></p><p class="quiet">${l.hint}</p></section>`);

const upstreamStates = {
  ok: ["good", "answers"],
  failing: ["bad", "does not answer"],
  untried: ["idle", "not tried yet"],
};

function upstream(u) {
  const [kind, text] = upstreamStates[u.state] ?? ["busy", u.state];
  return html`<li><p><strong>${u.endpoint}</strong> to <code>${u.url}</code></p>
    <p><span class="dot ${kind}"></span> ${text}${u.since ? html`, <span class="quiet">since ${when(u.since)} (${ago(u.since)})</span>` : nothing}</p>
    ${u.error ? html`<p class=${u.state === "failing" ? "bad" : "quiet"}>${u.state === "failing" ? nothing : html`Last failure ${when(u.failed)}: `}${u.error}</p>` : nothing}</li>`;
}

// upstreamCard shows the URLs that endpoints forward to, where there are any.
function upstreamCard() {
  const { upstreams } = state.status;
  if (!upstreams?.length) return nothing;
  return html`<section class="card" aria-labelledby="h-upstreams"><h2 id="h-upstreams">Forwarded to</h2>
    <ul class="upstreams">${upstreams.map(upstream)}</ul></section>`;
}

function tunnelHistory() {
  if (tunnelError) return problem(tunnelError, loadTunnel);
  if (!state.tunnel.length) return nothing;
  return html`
    <details class="history"><summary>History, ${plural(state.tunnel.length, "change")}</summary>
      <ol>${state.tunnel.map((c) => html`<li>${when(c.time)} <span class="dot ${phaseClass(c.phase)}"></span> ${c.phase}
        ${c.url ? html`<code>${c.url}</code>` : nothing}${c.error ? html` <span class="bad">${c.error}</span>` : nothing}${c.hint ? html` <span class="quiet">${c.hint}</span>` : nothing}</li>`)}</ol>
    </details>`;
}

function counts() {
  const byEndpoint = state.status.counts_by_endpoint;
  const served = new Set(state.status.endpoints.map((e) => e.name));
  const names = [...new Set([...served, ...Object.keys(byEndpoint)])].sort();
  const cell = (endpoint, s) => {
    const n = byEndpoint[endpoint]?.[s] ?? 0;
    return n ? html`<a href=${link({ view: "deliveries", delivery: "", filter: { ...noFilter, endpoint, state: s } })}>${count(n)}</a>` : html`<span class="quiet">0</span>`;
  };
  return html`
    <div class="scroll" tabindex="0" role="region" aria-label="Counts">
      <table class="counts">
        <thead><tr><th scope="col">Endpoint</th>${states.map((s) => html`<th scope="col"><span class="pill ${s}">${s}</span></th>`)}</tr></thead>
        <tbody>${names.map((name) => html`<tr><th scope="row">${name}${served.has(name) ? nothing : html` <span class="tag">not served</span>`}</th>${states.map((s) => html`<td>${cell(name, s)}</td>`)}</tr>`)}</tbody>
        ${names.length > 1 ? html`<tfoot><tr><th scope="row">all</th>${states.map((s) => html`<td>${count(state.status.counts[s])}</td>`)}</tr></tfoot>` : nothing}
      </table>
    </div>`;
}

// summary says in words what the chart shows, for readers who can't see it.
function summary() {
  const total = states.reduce((n, s) => n + (series.states[s] ?? []).reduce((a, b) => a + b, 0), 0);
  const dead = (series.states.dead ?? []).reduce((a, b) => a + b, 0);
  const longest = series.duration_ms.max.filter((v) => v !== null);
  return `${plural(total, "delivery", "deliveries")} in the last ${period === "1h" ? "hour" : "24 hours"}, ${count(dead)} of them dead` +
    (longest.length ? `; the longest attempt took ${duration(Math.max(...longest))}.` : ".");
}

function asTable() {
  const used = states.filter((s) => series.states[s]?.some((n) => n > 0));
  const rows = series.times.map((t, i) => ({ t, i })).filter(({ i }) => used.some((s) => series.states[s][i] > 0)).reverse();
  if (!rows.length) return nothing;
  const d = series.duration_ms;
  const time = (v) => (v === null ? html`<span class="quiet">none</span>` : duration(v));
  return html`
    <details><summary>The same as a table</summary>
      <div class="scroll" tabindex="0" role="region" aria-label="Deliveries over time"><table class="counts">
        <thead><tr><th scope="col">From</th>${used.map((s) => html`<th scope="col">${s}</th>`)}<th scope="col">median</th><th scope="col">95 %</th><th scope="col">longest</th></tr></thead>
        <tbody>${rows.map(({ t, i }) => html`<tr><th scope="row">${when(new Date(t * 1000).toISOString())}</th>${used.map((s) => html`<td>${count(series.states[s][i])}</td>`)}<td>${time(d.p50[i])}</td><td>${time(d.p95[i])}</td><td>${time(d.max[i])}</td></tr>`)}</tbody>
      </table></div>
    </details>`;
}

function chart() {
  if (seriesError) return problem(seriesError, loadSeries);
  if (!series) return html`<p class="quiet" role="status">Loading the chart…</p>`;
  if (!Charts) loadCharts();
  return html`
    <p class="quiet" id="chart-summary">${summary()}</p>
    <div class="charts" role="img" aria-label="Deliveries by state and handling time" aria-describedby="chart-summary" ${ref(Charts ? hold : () => {})}></div>
    ${asTable()}`;
}

const choosePeriod = (value, text) => html`<button type="button" class="small" aria-pressed=${period === value} @click=${() => {
  period = value;
  loadSeries();
}}>${text}</button>`;

export function statusDrawn() {
  if (charts && series) charts.show(series);
}

export function statusView() {
  const s = state.status;
  return html`
    <section class="pane page" aria-labelledby="status-title">
      <h1 id="status-title">Status</h1>
      ${state.statusError ? problem(state.statusError, loadStatus) : nothing}
      ${s ? html`
        ${loops(s.loops ?? [])}
        <div class="cards">
          <section class="card" aria-labelledby="h-tunnel"><h2 id="h-tunnel">Tunnel</h2>${tunnelCard()}${tunnelHistory()}</section>
          <section class="card" aria-labelledby="h-urls"><h2 id="h-urls">Endpoints</h2>
            ${endpointURLs(s.endpoints)}
            ${allKept(s.endpoints, s.webhooks ?? []) || (s.followed?.length && !s.addresses.public) ? nothing : html`<p class="quiet">Paste one into ${webhookSettings()} on the Hub.</p>`}</section>
          ${upstreamCard()}
        </div>
        ${webhooks(s.webhooks ?? [])}
        ${followed(s.followed ?? [])}
        <section class="card" aria-labelledby="h-chart">
          <div class="card-head"><h2 id="h-chart">Deliveries${state.route.filter.endpoint ? ` of ${state.route.filter.endpoint}` : ""}</h2>
            <span class="buttons" role="group" aria-label="Period">${choosePeriod("1h", "Last hour")}${choosePeriod("24h", "Last day")}</span></div>
          ${chart()}</section>
        <section class="card" aria-labelledby="h-counts"><h2 id="h-counts">Stored</h2>${counts()}</section>
        <section class="card" aria-labelledby="h-process"><h2 id="h-process">Process</h2>
          <dl class="facts"><dt>Version</dt><dd>${s.version}</dd><dt>Process</dt><dd>${s.pid}, since ${moment(s.started)}</dd>
            <dt>Data</dt><dd><code>${s.data}</code></dd><dt>Local URL</dt><dd><code>${s.addresses.local}</code></dd>
            <dt>Metrics</dt><dd><a href="/metrics">/metrics</a>, for Prometheus</dd></dl></section>`
        : state.statusError ? nothing : html`<p class="quiet" role="status">Loading…</p>`}
    </section>`;
}
