// The list of deliveries: filters above, and only the visible rows below.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { repeat } from "./vendor/lit-html/directives/repeat.js";
import { live } from "./vendor/lit-html/directives/live.js";
import { finished, noFilter, states } from "./deliveries.js";
import { count, duration, eventName, plural } from "./format.js";
import { newcomer } from "./newcomer.js";
import { pill, problem, repoName, tags, when } from "./parts.js";
import { replayDead } from "./replay-dead.js";
import { link, navigate, onNavigate, redraw, state, storedCounts } from "./store.js";

const overscan = 8; // rows drawn above and below the visible ones
const fetchAhead = 60; // fetch more so many rows before the end

const scopes = ["repo", "repo.content", "repo.config", "discussion", "discussion.comment"];

let scroller = null; // the element that scrolls
let rowHeight = 36; // px, from the style sheet, for the list's width
let freshAbove = 0; // new rows above the visible ones
let wanted = ""; // ID of the row to scroll to once it is there
let focusWanted = false; // focus the row under the cursor once it is drawn

const observer = new ResizeObserver(() => {
  measure();
  redraw();
});

function measure() {
  const height = parseFloat(getComputedStyle(scroller).getPropertyValue("--row"));
  if (height) rowHeight = height;
}

// adopt is called once the list's element is there.
function adopt(element) {
  if (element === scroller) return;
  observer.disconnect();
  scroller = element;
  if (!element) return;
  measure();
  observer.observe(element);
}

const filtered = () => Object.values(state.route.filter).some(Boolean);

function setFilter(name, value, options) {
  const filter = { ...state.route.filter, [name]: value.trim() };
  if (filter[name] !== state.route.filter[name]) navigate({ filter }, options);
}

// Text in the fields that is no filter yet. The page is drawn again with every event, and must not lose this text.
const drafts = new Map();
let typing = null;

const written = (name) => drafts.get(name) ?? state.route.filter[name];

onNavigate(({ filter }) => {
  for (const [name, text] of drafts) if (text.trim() !== filter[name]) drafts.delete(name);
});

// searchAs waits until the user stops typing for a moment.
function searchAs(value) {
  drafts.set("q", value);
  clearTimeout(typing);
  typing = setTimeout(() => setFilter("q", value, { replace: true }), 200);
}

// settleField makes the text of a field the filter.
function settleField(name, value) {
  drafts.delete(name);
  setFilter(name, value);
  redraw();
}

const option = (value, text, chosen) => html`<option value=${value} .selected=${value === chosen}>${text}</option>`;

function filters() {
  const f = state.route.filter;
  const endpoints = new Set([...(state.status?.endpoints ?? []).map((e) => e.name), ...Object.keys(state.status?.counts_by_endpoint ?? {})]);
  if (f.endpoint) endpoints.add(f.endpoint);
  const counts = storedCounts(f.endpoint);
  const repos = new Set();
  for (const d of state.list.rows) {
    if (d.repo.name) repos.add(`${d.repo.type}:${d.repo.name}`);
    if (repos.size >= 50) break;
  }
  const shownScopes = scopes.includes(f.scope) || !f.scope ? scopes : [...scopes, f.scope];
  return html`
    <form class="filters" role="search" aria-label="Deliveries" @submit=${(e) => e.preventDefault()}>
      <label class="grow"><span class="hidden">Search</span>
        <input type="search" name="q" id="search" placeholder="Search" title="Part of an ID, a Webhook-Id, a repo or a reason" autocomplete="off" spellcheck="false"
          .value=${live(written("q"))} @input=${(e) => searchAs(e.target.value)} @change=${(e) => settleField("q", e.target.value)}></label>
      <label><span class="hidden">Endpoint</span>
        <select name="endpoint" @change=${(e) => setFilter("endpoint", e.target.value)}>
          ${option("", "all endpoints", f.endpoint)}
          ${[...endpoints].sort().map((name) => option(name, name, f.endpoint))}
        </select></label>
      <label><span class="hidden">State</span>
        <select name="state" @change=${(e) => setFilter("state", e.target.value)}>
          ${option("", "all states", f.state)}
          ${states.map((s) => option(s, counts ? `${s} (${count(counts[s] ?? 0)})` : s, f.state))}
        </select></label>
      <label><span class="hidden">Scope</span>
        <select name="scope" @change=${(e) => setFilter("scope", e.target.value)}>
          ${option("", "all scopes", f.scope)}
          ${shownScopes.map((s) => option(s, s, f.scope))}
        </select></label>
      <label><span class="hidden">Repo</span>
        <input name="repo" list="repos" placeholder="Repo" autocomplete="off" spellcheck="false"
          .value=${live(written("repo"))} @input=${(e) => drafts.set("repo", e.target.value)} @change=${(e) => settleField("repo", e.target.value)}>
        <datalist id="repos">${[...repos].sort().map((r) => html`<option value=${r}></option>`)}</datalist></label>
      ${filtered() ? html`<button type="button" @click=${() => navigate({ filter: noFilter })}>Clear</button>` : nothing}
      ${replayDead()}
    </form>`;
}

const duties = (d) => (d.duration_ms || finished.has(d.state) && d.attempts ? duration(d.duration_ms) : "");

function row(d, i) {
  const { route, cursor } = state;
  const current = d.id === route.delivery;
  return html`
    <div role="row" class="row ${d.id === cursor ? "cursor" : ""} ${current ? "current" : ""}" aria-rowindex=${i + 2} data-id=${d.id} data-state=${d.state}>
      <span role="cell" class="c-time">${when(d.received)}</span>
      <span role="cell" class="c-endpoint">${d.endpoint}</span>
      <span role="cell" class="c-event"><a href=${link({ delivery: d.id, compare: null })} aria-current=${current ? "true" : nothing}>${eventName(d)}</a>${tags(d)}</span>
      <span role="cell" class="c-repo">${repoName(d)}</span>
      <span role="cell" class="c-state" title=${d.reason || nothing}>${pill(d.state)}</span>
      <span role="cell" class="c-attempts" title=${plural(d.attempts, "attempt")}>${d.attempts}<span class="hidden"> ${d.attempts === 1 ? "attempt" : "attempts"}</span></span>
      <span role="cell" class="c-duration">${duties(d)}</span>
    </div>`;
}

const head = html`
  <div role="rowgroup" class="list-head">
    <div role="row" aria-rowindex="1" class="row">
      <span role="columnheader" class="c-time">Time</span>
      <span role="columnheader" class="c-endpoint">Endpoint</span>
      <span role="columnheader" class="c-event">Event</span>
      <span role="columnheader" class="c-repo">Repo</span>
      <span role="columnheader" class="c-state">State</span>
      <span role="columnheader" class="c-attempts">Attempts</span>
      <span role="columnheader" class="c-duration">Duration</span>
    </div>
  </div>`;

function visible() {
  const { rows } = state.list;
  const top = scroller?.scrollTop ?? 0;
  const height = scroller?.clientHeight ?? 900;
  const first = Math.max(0, Math.min(rows.length, Math.floor(top / rowHeight)) - overscan);
  const last = Math.min(rows.length, Math.ceil((top + height) / rowHeight) + overscan);
  return { first, last: Math.max(first, last) };
}

function scrolled() {
  const { list } = state;
  const index = Math.floor(scroller.scrollTop / rowHeight);
  // When new rows come above, the rows in sight stay in place. At the top they don't, so that the newest rows show.
  list.anchor = index > 0 ? list.rows[index]?.id : undefined;
  if (index === 0) freshAbove = 0;
  redraw();
}

// settleList merges arrived deliveries into the rows without moving the visible ones.
export function settleList() {
  const shift = state.list.settle();
  if (shift && scroller) {
    scroller.scrollTop += shift * rowHeight;
    if (shift > 0) freshAbove += shift;
  }
}

// listDrawn finishes what a template can't do: sizes in pixels, and the focus.
export function listDrawn() {
  adopt(document.getElementById("rows"));
  if (!scroller) return;
  const { rows, next } = state.list;
  const { first, last } = visible();
  const space = scroller.firstElementChild;
  space.style.height = `${rows.length * rowHeight}px`;
  space.firstElementChild.style.transform = `translateY(${first * rowHeight}px)`;
  if (next !== null && !state.list.error && last > rows.length - fetchAhead) state.list.more();
  const at = wanted ? state.list.position(wanted) : -1;
  if (at >= 0) {
    wanted = "";
    bringIntoSight(at);
  }
  if (focusWanted) {
    focusWanted = false;
    scroller.querySelector(`[data-id="${CSS.escape(state.cursor)}"] a`)?.focus({ preventScroll: true });
  }
}

// reveal scrolls to a delivery's row, at once or when the row comes.
export function reveal(id) {
  wanted = id;
}

function bringIntoSight(at) {
  const top = at * rowHeight;
  if (top < scroller.scrollTop) scroller.scrollTop = top;
  else if (top + rowHeight > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = top + rowHeight - scroller.clientHeight;
}

// step moves the cursor by so many rows. If a delivery is open, it opens the one at the cursor instead.
export function step(by) {
  const { rows } = state.list;
  if (rows.length === 0) return;
  const at = state.list.position(state.cursor || state.route.delivery);
  const to = at < 0 ? 0 : Math.max(0, Math.min(rows.length - 1, at + by));
  state.cursor = rows[to].id;
  if (scroller) {
    bringIntoSight(to);
    focusWanted = true;
  }
  if (state.route.delivery) navigate({ delivery: state.cursor, compare: null }, { replace: true });
  redraw();
}

export function scrollToTop() {
  if (scroller) scroller.scrollTop = 0;
  freshAbove = 0;
  redraw();
}

function body() {
  const { list } = state;
  if (list.error && !list.loaded) return problem(list.error, () => list.show(list.filter));
  if (!list.loaded) return html`<p class="quiet padded" role="status">Loading deliveries…</p>`;
  if (list.rows.length === 0) {
    if (!filtered()) return newcomer();
    return html`<div class="empty"><p>No delivery matches these filters.</p><button type="button" @click=${() => navigate({ filter: noFilter })}>Clear the filters</button></div>`;
  }
  const { first, last } = visible();
  const total = list.next === null ? list.rows.length + 1 : -1;
  return html`
    <div role="table" aria-label="Deliveries, newest first" aria-rowcount=${total} class="table">
      ${head}
      <div id="rows" class="rows" role="rowgroup" tabindex="-1" @scroll=${scrolled}>
        <div class="space" role="presentation"><div class="window" role="presentation">
          ${repeat(list.rows.slice(first, last), (d) => d.id, (d, i) => row(d, first + i))}
        </div></div>
      </div>
    </div>
    ${freshAbove > 0 ? html`<button type="button" class="fresh" @click=${scrollToTop}>↑ ${plural(freshAbove, "new delivery", "new deliveries")}</button>` : nothing}
    ${list.error ? problem(list.error, () => list.more()) : nothing}`;
}

// The heading stays even if a narrow page has no room for the list beside a delivery.
export const listView = () => html`
  <h1 id="list-title" class="hidden">Deliveries</h1>
  <section class="pane list" aria-labelledby="list-title">
    ${filters()}
    <div class="list-body">${body()}</div>
  </section>`;
