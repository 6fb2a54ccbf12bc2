// Two deliveries side by side: their payloads, their headers, and their outcomes.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { getDelivery, listDeliveries } from "./api.js";
import { diffView } from "./diff-view.js";
import { duration, eventName, moment } from "./format.js";
import { deliveryLink, pill, problem, when } from "./parts.js";
import { link, navigate, redraw, state } from "./store.js";

let pair = { ids: null, records: null, error: null };
let choice = null; // null, or a delivery, with suggestions of what to compare it with

// showPair fetches two deliveries, null for none.
export async function showPair(ids) {
  if (String(ids) === String(pair.ids)) return;
  pair = { ids, records: null, error: null };
  if (!ids) return;
  const mine = pair;
  try {
    mine.records = await Promise.all(ids.map((id) => getDelivery(id)));
  } catch (e) {
    mine.error = e;
  }
  redraw();
}

// chooseOther asks which delivery to compare this one with.
export async function chooseOther(record) {
  choice = { record, suggestions: null, error: null };
  const mine = choice;
  redraw();
  try {
    mine.suggestions = await suggest(record);
  } catch (e) {
    mine.error = e;
  }
  redraw();
}

// suggest returns likely deliveries to compare with, each with the reason.
async function suggest(record) {
  const before = { before: record.id, limit: 20 };
  const of = (filter) => listDeliveries({ endpoint: record.endpoint, ...before, ...filter }).then((page) => page.deliveries);
  const [repo, event, done] = await Promise.all([
    record.repo.name ? of({ repo: `${record.repo.type}:${record.repo.name}`, scope: record.event.scope }) : [],
    record.event.scope ? of({ scope: record.event.scope, action: record.event.action }) : of({}),
    of({ state: "done", scope: record.event.scope }),
  ]);
  const found = new Map();
  const add = (why, d) => d && d.id !== record.id && !found.has(d.id) && found.set(d.id, { why, d });
  if (record.replay_of) {
    const first = await getDelivery(record.replay_of).catch(() => null); // retention may have removed it
    add("the delivery that it repeats", first);
  }
  add("the one before it of this repo", repo[0]);
  add("the last one before it that was done", done[0]);
  for (const d of event.slice(0, 5)) add("an earlier one of this event", d);
  return [...found.values()].slice(0, 8);
}

function close() {
  choice = null;
  redraw();
}

function choose(id) {
  const { record } = choice;
  close();
  const other = id.trim();
  // The older delivery is the base of the comparison.
  const ids = other < record.id ? [other, record.id] : [record.id, other];
  navigate({ view: "deliveries", compare: ids });
}

function submitted(e) {
  e.preventDefault();
  const id = new FormData(e.target).get("id").trim();
  if (id) choose(id);
}

export function compareDialog() {
  if (!choice) return nothing;
  const { suggestions, error } = choice;
  return html`
    <dialog aria-labelledby="compare-choice" @close=${close}>
      <h2 id="compare-choice">Compare with…</h2>
      ${error ? problem(error) : nothing}
      ${suggestions === null && !error ? html`<p class="quiet" role="status">Looking for deliveries like it…</p>` : nothing}
      ${suggestions?.length ? html`<ul class="choices">${suggestions.map(({ why, d }) => html`
        <li><button type="button" @click=${() => choose(d.id)}>${pill(d.state)} <strong>${eventName(d)}</strong> ${d.repo.name} <span class="quiet">${when(d.received)} · ${why}</span></button></li>`)}</ul>` : nothing}
      <form @submit=${submitted} class="inline-form">
        <label class="grow">Or by its ID <input name="id" class="id" autocomplete="off" spellcheck="false" placeholder="01…"></label>
        <button type="submit">Compare</button>
      </form>
      <p class="buttons"><button type="button" @click=${close}>Cancel</button></p>
    </dialog>`;
}

const headerText = (record) => Object.keys(record.headers).sort().map((name) => `${name}: ${record.headers[name].join(", ")}`).join("\n");

function outcome(record) {
  const last = record.attempt_list.at(-1);
  const rows = [
    ["Delivery", deliveryLink(record.id)],
    ["Received", moment(record.received)],
    ["Event", eventName(record)],
    ["Repo", record.repo.name ? `${record.repo.type} ${record.repo.name}` : "none"],
    ["State", pill(record.state)],
    ["Reason", record.reason || html`<span class="quiet">none</span>`],
    ["Attempts", String(record.attempts)],
    ["Last attempt", last ? (last.duration_ms === null ? "runs" : duration(last.duration_ms)) : html`<span class="quiet">none</span>`],
    ["Error", last?.error || html`<span class="quiet">none</span>`],
    ["Result", last?.result === null || last?.result === undefined ? html`<span class="quiet">none</span>` : html`<code>${JSON.stringify(last.result)}</code>`],
  ];
  return rows;
}

function sideBySide([a, b]) {
  const left = outcome(a);
  const right = outcome(b);
  return html`
    <div class="scroll" tabindex="0" role="region" aria-label="What became of the two"><table class="sides">
      <thead><tr><td></td><th scope="col">Before</th><th scope="col">After</th></tr></thead>
      <tbody>${left.map(([name, value], i) => html`<tr><th scope="row">${name}</th><td>${value}</td><td>${right[i][1]}</td></tr>`)}</tbody>
    </table></div>`;
}

// Headers are compared as a list of lines.
const asJSON = (text) => JSON.stringify(text.split("\n"));

export function compareView() {
  const { records, error } = pair;
  const back = state.route.delivery;
  return html`
    <section class="pane page compare" aria-labelledby="compare-title">
      <div class="page-head"><h1 id="compare-title">Two deliveries</h1>
        <a class="button" href=${link({ compare: null })}>${back ? "Back to the delivery" : "Back to the list"}</a></div>
      ${error ? problem(error) : nothing}
      ${!records && !error ? html`<p class="quiet" role="status">Loading…</p>` : nothing}
      ${records ? html`
        ${sideBySide(records)}
        <h2>Payload</h2>${diffView(records[0].body, records[1].body, "Differences of the payloads")}
        <h2>Headers</h2>${diffView(asJSON(headerText(records[0])), asJSON(headerText(records[1])), "Differences of the headers")}` : nothing}
    </section>`;
}
