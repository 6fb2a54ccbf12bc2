// One delivery: the event, its attempts, and what to do next.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { discard, getDelivery, replay } from "./api.js";
import { finished } from "./deliveries.js";
import { edit } from "./editor.js";
import { chooseOther } from "./compare.js";
import { clock, count, curl, duration, eventName, moment, plural, reindent, safeURL, size } from "./format.js";
import { fetched, printed } from "./output.js";
import { copyButton, deliveryLink, outside, pill, problem, tags, when } from "./parts.js";
import { attempt, copy, link, navigate, redraw, say, state } from "./store.js";
import { Tree } from "./tree.js";

const rawPiece = 200_000; // characters of a body shown at first
const resultPiece = 20_000; // characters of a result shown at first

// The open delivery as last fetched, and the state of its view.
let shown = { id: "", record: null, bytes: 0, error: null, loading: false, tab: "tree", tree: null, raw: rawPiece, whole: new Set() };
let controller = null;
let unannounced = false; // the delivery was opened, and its title is not drawn yet to get the focus
let wish = null; // the action to do once the delivery is loaded
let refetch = null;

// showDelivery fetches a delivery, "" for none.
export function showDelivery(id) {
  if (id === shown.id) return;
  controller?.abort();
  clearTimeout(refetch);
  refetch = null;
  wish = null;
  unannounced = id !== "";
  shown = { id, record: null, bytes: 0, error: null, loading: false, tab: shown.tab, tree: null, raw: rawPiece, whole: new Set() };
  if (id) load();
}

async function load() {
  controller?.abort();
  controller = new AbortController();
  const mine = shown;
  mine.loading = true;
  try {
    const record = await getDelivery(mine.id, controller.signal);
    if (mine !== shown) return;
    mine.error = null;
    if (mine.record?.body !== record.body) mine.tree = null;
    mine.record = record;
    mine.bytes = new Blob([record.body]).size;
    for (const a of record.attempt_list) if (a.duration_ms === null) fetched(record.id, a);
  } catch (e) {
    if (e.name === "AbortError" || mine !== shown) return;
    mine.error = e;
  }
  mine.loading = false;
  if (mine.record && wish) wish(mine.record);
  wish = null;
  redraw();
}

// changedDelivery is called when the stream reports a change of a delivery.
export function changedDelivery(id) {
  if (id !== shown.id || refetch !== null) return;
  // Several changes come together: stored, started, ended.
  refetch = setTimeout(() => {
    refetch = null;
    load();
  }, 60);
}

export const refreshDelivery = () => shown.id && changedDelivery(shown.id);

// withDelivery does an action with the open delivery. If none is open, it opens the delivery under the cursor first.
export function withDelivery(f) {
  if (shown.record) {
    f(shown.record);
  } else if (state.cursor && state.route.view === "deliveries" && !state.route.compare) {
    navigate({ delivery: state.cursor });
    wish = f;
  }
}

export async function replayNow({ id }) {
  const answer = await attempt(`Replaying ${id}`, () => replay(id));
  if (!answer) return;
  navigate({ view: "deliveries", delivery: answer.delivery, compare: null });
  say("Replayed: this is the new delivery.", { href: link({ delivery: id }), label: "Back to the one before" });
}

async function discardShown() {
  const { record } = shown;
  if (!confirm(`Discard ${record.id}? It will not be handled${record.state === "running" ? ", and its handler is cancelled" : ""}.`)) return;
  if (await attempt(`Discarding ${record.id}`, () => discard(record.id))) load();
}

const endpointURL = (name) => {
  const { local } = state.status?.addresses ?? {};
  return local ? `${local.replace(/\/$/, "")}/webhooks/${name}` : state.status?.endpoints.find((e) => e.name === name)?.url;
};

const copyCurl = (record) => copy(curl(record, endpointURL(record.endpoint) ?? `http://127.0.0.1:7860/webhooks/${record.endpoint}`), "the curl command");

function actions(record) {
  return html`
    <div class="actions" role="group" aria-label="Actions">
      <button type="button" class="primary" @click=${() => replayNow(record)}>Replay <kbd>r</kbd></button>
      <button type="button" @click=${() => edit(record)}>Edit and replay <kbd>e</kbd></button>
      <button type="button" @click=${() => chooseOther(record)}>Compare… <kbd>c</kbd></button>
      <button type="button" @click=${() => copyCurl(record)}>Copy as curl</button>
      <button type="button" @click=${() => copy(JSON.stringify(record, null, 2), "the delivery as JSON")}>Copy as JSON</button>
      ${finished.has(record.state) ? nothing : html`<button type="button" class="danger" @click=${discardShown}>Discard</button>`}
    </div>`;
}

function facts(record) {
  const rows = [
    ["Delivery", html`<span class="id">${record.id}</span> ${copyButton(record.id, "the delivery’s ID")}`],
    ["Webhook-Id", record.webhook_id ? html`<span class="id">${record.webhook_id}</span>` : html`<span class="quiet">none was sent</span>`],
    ["Endpoint", record.endpoint],
    ["Received", moment(record.received)],
  ];
  if (record.replay_of) rows.push(["Replay of", html`${deliveryLink(record.replay_of)} · <a href=${link({ delivery: "", compare: [record.replay_of, record.id] })}>compare</a>`]);
  if (record.merged_into) rows.push(["Merged into", deliveryLink(record.merged_into)]);
  if (record.merged?.length) rows.push(["Stands for", html`${record.merged.map((id) => html`${deliveryLink(id)} `)}`]);
  if (record.duplicates) rows.push(["Duplicates", `${plural(record.duplicates, "repeat")} of it ${record.duplicates === 1 ? "was" : "were"} answered as a duplicate`]);
  if (record.replays) rows.push(["Replays", html`<a href=${link({ delivery: record.id, filter: { ...state.route.filter, q: record.webhook_id || record.repo.name } })}>${plural(record.replays, "delivery repeats", "deliveries repeat")} it</a>`]);
  if (record.run_at) rows.push(["Next attempt", moment(record.run_at)]);
  return html`<dl class="facts">${rows.map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>`;
}

// timeline draws when an attempt ran, between the delivery's arrival and the end of the last one.
function timeline(record, a, until) {
  const from = Date.parse(record.received);
  const whole = Math.max(1, until - from);
  const start = Math.max(0, Date.parse(a.started) - from);
  const length = a.duration_ms ?? until - Date.parse(a.started);
  const x = (1000 * start) / whole;
  const width = Math.max(4, (1000 * length) / whole);
  const kind = a.duration_ms === null ? "running" : a.error ? "failed" : "good";
  return html`<svg class="timeline" viewBox="0 0 1000 10" preserveAspectRatio="none" role="img"
    aria-label="began ${duration(start)} after the delivery came, ${a.duration_ms === null ? "and runs" : `and took ${duration(a.duration_ms)}`}">
    <rect class="track" x="0" y="4" width="1000" height="2"></rect><rect class=${kind} x=${Math.min(x, 996)} y="0" width=${Math.min(width, 1000 - Math.min(x, 996))} height="10"></rect></svg>`;
}

// culprit returns the line of a Go stack to show first: where the handler panicked, without the runtime's own frames.
function culprit(stack) {
  const at = stack.findLastIndex((line) => /^(panic|runtime\.\w+)\(/.test(line));
  return stack[at < 0 ? 1 : at + 2] ?? stack[0];
}

const results = new WeakMap(); // texts, by attempt

function result(a) {
  if (!results.has(a)) results.set(a, reindent(JSON.stringify(a.result)));
  const text = results.get(a);
  const left = shown.whole.has(a.n) ? 0 : text.length - resultPiece;
  return html`
    <pre tabindex="0" aria-label="Result of attempt ${a.n}">${left > 0 ? text.slice(0, resultPiece) : text}</pre>
    ${left > 0 ? html`<p><button type="button" class="small" @click=${() => {
      shown.whole.add(a.n);
      redraw();
    }}>Show ${count(left)} more characters</button></p>` : nothing}`;
}

function oneAttempt(record, a, until) {
  const running = a.duration_ms === null;
  const output = printed(record.id, a);
  const stack = a.stack.trimEnd().split("\n");
  return html`
    <li class="attempt">
      <div class="attempt-head">
        <strong>Attempt ${a.n}</strong>
        <span class="quiet" title=${moment(a.started)}>${clock(a.started)}</span>
        ${running ? pill("running") : html`<span>${a.error ? html`<span class="bad">failed</span>` : html`<span class="good">succeeded</span>`} in ${duration(a.duration_ms)}</span>`}
      </div>
      ${timeline(record, a, until)}
      ${a.error ? html`<pre class="error" tabindex="0" aria-label="Error of attempt ${a.n}">${a.error}</pre>` : nothing}
      ${a.stack ? html`<details class="stack"><summary>Stack, ${plural(stack.length, "line")}: <code>${culprit(stack)}</code></summary><pre tabindex="0">${a.stack}</pre></details>` : nothing}
      ${output || running ? html`<h4>Output${running ? html` <span class="quiet">as it comes</span>` : nothing}</h4>
        <pre class="output" tabindex="0" aria-label="Output of attempt ${a.n}" aria-live=${running ? "off" : nothing}>${output || nothing}</pre>` : nothing}
      ${a.result !== null && a.result !== undefined ? html`<h4>Result</h4>${result(a)}` : nothing}
    </li>`;
}

function attempts(record) {
  const list = record.attempt_list;
  if (list.length === 0) {
    const why = record.state === "done" ? "This endpoint has no handler: the delivery was stored and answered."
      : finished.has(record.state) ? "It was never handed to the handler." : "It waits for its first attempt.";
    return html`<p class="quiet">${why}</p>`;
  }
  const until = Math.max(...list.map((a) => Date.parse(a.started) + (a.duration_ms ?? Date.now() - Date.parse(a.started))), record.run_at ? Date.parse(record.run_at) : 0);
  return html`<ol class="attempts">${list.map((a) => oneAttempt(record, a, until))}</ol>
    ${record.state === "retrying" ? html`<p class="quiet">The next attempt is due at ${clock(record.run_at)}.</p>` : nothing}`;
}

function download(record) {
  const url = URL.createObjectURL(new Blob([record.body], { type: "application/json" }));
  const a = document.createElement("a");
  a.href = url;
  a.download = `${record.id}.json`;
  a.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

function raw(record) {
  const left = record.body.length - shown.raw;
  return html`
    <pre class="raw" tabindex="0" aria-label="Payload, as it was sent">${record.body.slice(0, shown.raw)}</pre>
    ${left > 0 ? html`<p><button type="button" @click=${() => {
      shown.raw = Infinity;
      redraw();
    }}>Show ${count(left)} more characters</button></p>` : nothing}`;
}

function tab(name, text) {
  return html`<button type="button" role="tab" id="tab-${name}" aria-controls="payload-panel" aria-selected=${shown.tab === name} tabindex=${shown.tab === name ? 0 : -1}
    @click=${() => {
      shown.tab = name;
      redraw();
    }}>${text}</button>`;
}

// turn moves between the tabs with the arrow keys, as screen readers announce.
function turn(e) {
  if (e.key !== "ArrowLeft" && e.key !== "ArrowRight") return;
  shown.tab = shown.tab === "tree" ? "raw" : "tree";
  redraw();
  requestAnimationFrame(() => document.getElementById(`tab-${shown.tab}`)?.focus());
}

function payload(record) {
  shown.tree ??= new Tree(record.body, redraw);
  return html`
    <div class="tabs">
      <div role="tablist" aria-label="Payload as" @keydown=${turn}>${tab("tree", "Tree")}${tab("raw", "Raw")}</div>
      <span class="quiet">${size(shown.bytes)}</span>
      <span class="buttons">
        ${shown.tab === "tree" && !shown.tree.error ? html`<button type="button" class="small" @click=${() => shown.tree.unfold(true)}>Unfold</button>
          <button type="button" class="small" @click=${() => shown.tree.unfold(false)}>Fold</button>` : nothing}
        ${copyButton(record.body, "the payload")}
        <button type="button" class="small" @click=${() => download(record)}>Download</button>
      </span>
    </div>
    <div role="tabpanel" id="payload-panel" aria-labelledby="tab-${shown.tab}">${shown.tab === "tree" ? shown.tree.render() : raw(record)}</div>`;
}

function headers(record) {
  const names = Object.keys(record.headers).sort();
  if (names.length === 0) return html`<p class="quiet">None were sent.</p>`;
  return html`<table class="headers"><tbody>${names.map((name) => record.headers[name].map((value) => html`
    <tr><th scope="row">${name}</th><td>${value === "[secret]" ? html`<span class="secret">••••••••<span class="hidden">hidden, since it is a secret</span></span>` : value}</td></tr>`))}</tbody></table>`;
}

function links(record) {
  const all = (record.links ?? []).map((l) => ({ ...l, url: safeURL(l.url) })).filter((l) => l.url);
  if (all.length === 0) return nothing;
  return html`<ul class="links" aria-label="On the Hub">${all.map((l) => html`<li>${outside(l.url, l.text)}</li>`)}</ul>`;
}

function content(record) {
  return html`
    <div class="detail-head">
      <h2 id="detail-title" tabindex="-1">${eventName(record)} ${tags(record)}</h2>
      ${pill(record.state)}
      <span class="quiet">${when(record.received)}</span>
    </div>
    <p class="summary">${record.summary || (record.repo.name ? `${record.repo.name}: ${eventName(record)}` : "A payload that hubhook can’t read.")}</p>
    ${links(record)}
    ${record.reason ? html`<p class="reason ${record.state}">${record.reason}</p>` : nothing}
    ${actions(record)}
    <section aria-labelledby="h-attempts"><h3 id="h-attempts">Attempts</h3>${attempts(record)}</section>
    <section aria-labelledby="h-payload"><h3 id="h-payload">Payload</h3>${payload(record)}</section>
    <section aria-labelledby="h-headers"><h3 id="h-headers">Headers</h3>${headers(record)}</section>
    <section aria-labelledby="h-facts"><h3 id="h-facts">Delivery</h3>${facts(record)}</section>`;
}

export function detailView() {
  const { id, record, error } = shown;
  return html`
    <section class="pane detail" aria-labelledby=${record ? "detail-title" : nothing} aria-label=${record ? nothing : "Delivery"} aria-busy=${shown.loading && !record}>
      <div class="detail-bar">
        <a class="button" href=${link({ delivery: "" })}><span class="wide-only">Close</span><span class="narrow-only">← Deliveries</span></a>
        <span class="id quiet">${id}</span>
      </div>
      <div class="detail-body" id="detail-body">
        ${record ? content(record) : error ? nothing : html`<p class="quiet" role="status">Loading ${id}…</p>`}
        ${error ? problem(error, error.status === 404 ? null : load) : nothing}
      </div>
    </section>`;
}

// detailDrawn gives the focus to the opened delivery, unless something else has it. The row that had it may be out of sight by then.
export function detailDrawn() {
  const title = unannounced && document.getElementById("detail-title");
  if (!title) return;
  unannounced = false;
  const { activeElement } = document;
  if (activeElement === document.body || activeElement?.offsetParent === null) title.focus({ preventScroll: true });
}

// followOutput keeps the end of running output in sight, unless the reader has scrolled away from it.
export function followOutput(draw) {
  const near = [...document.querySelectorAll(".output")].map((e) => [e, e.scrollHeight - e.scrollTop - e.clientHeight < 40]);
  draw();
  for (const [element, wasNear] of near) if (wasNear) element.scrollTop = element.scrollHeight;
}
