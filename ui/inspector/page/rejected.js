// Requests that were refused: nothing of them was stored, and the Hub counts each as a failure.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { getRejected } from "./api.js";
import { ago, count, plural } from "./format.js";
import { problem, when } from "./parts.js";
import { redraw, state } from "./store.js";

const most = 200; // as many as hubhook keeps

let error = null;
let timer = null;

export async function loadRejected() {
  timer = null;
  try {
    const answer = await getRejected();
    state.rejected = answer.rejected;
    state.rejectedTotal = answer.total;
    error = null;
  } catch (e) {
    error = e;
  }
  lookedAt();
  redraw();
}

// refused is called for each refused request on the stream. hubhook keeps repeats in one entry, so the list is fetched again soon.
export function refused() {
  state.rejectedTotal++;
  timer ??= setTimeout(loadRejected, 300);
  redraw();
}

// lookedAt notes that the reader has seen the list. It is called whenever the list is shown.
export function lookedAt() {
  if (state.route.view === "refused") state.rejectedSeen = state.rejectedTotal;
}

export const unseen = () => Math.max(0, state.rejectedTotal - state.rejectedSeen);

const item = (r) => html`
  <li class="refusal">
    <div class="refusal-head"><span class="status-code">${r.status}</span> <strong>${r.error}</strong>${r.times > 1 ? html` <span class="tag">${count(r.times)} times</span>` : nothing}</div>
    <p class="quiet">${r.endpoint ? html`<code>${r.endpoint}</code> · ` : nothing}${when(r.time)}, ${ago(r.time)}${r.user_agent ? html` · from ${r.user_agent}` : nothing}</p>
    ${r.fix ? html`<p><span class="quiet">What to do:</span> ${r.fix}</p>` : nothing}
  </li>`;

export const rejectedView = () => html`
  <section class="pane page" aria-labelledby="refused-title">
    <h1 id="refused-title">Refused requests</h1>
    <p class="quiet">Nothing of them was stored. The Hub tries each again for a while, and suspends a webhook that goes on failing.
      ${state.rejectedTotal > most ? html`The newest of ${count(state.rejectedTotal)} since hubhook’s start.` : nothing}</p>
    ${error ? problem(error, loadRejected) : nothing}
    ${state.rejected.length ? html`<ul class="refusals" aria-label=${plural(state.rejected.length, "refused request")}>${state.rejected.map(item)}</ul>`
      : error ? nothing : html`<div class="empty"><p>None since hubhook’s start. A wrong secret on the Hub would be here within seconds.</p></div>`}
  </section>`;
