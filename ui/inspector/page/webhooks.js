// The webhooks on the Hub that hubhook keeps.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { ago, count, plural } from "./format.js";
import { copyButton, outside, when } from "./parts.js";

const stateClass = (state) => ({ active: "good", returned: "good", failed: "bad", suspended: "bad", taken: "bad" })[state] ?? "busy";

// day says how much of what the Hub sends in a day has come.
function day(w) {
  const near = w.deliveries >= 0.8 * w.delivery_limit;
  return html`<p class=${near ? "bad" : "quiet"}>${count(w.deliveries)} of ${count(w.delivery_limit)} deliveries in the last 24 hours${near ? "; beyond that the Hub may send no more" : ""}</p>`;
}

const webhook = (w) => html`
  <li>
    <p><span class="dot ${stateClass(w.state)}"></span> <strong>${w.state}</strong> <span class="quiet">for ${w.endpoint}${w.borrowed ? ", borrowed" : ""}, since ${when(w.since)} (${ago(w.since)})</span></p>
    ${w.error ? html`<p class="bad">${w.error}</p>` : nothing}
    ${w.hint ? html`<p class="quiet hint">${w.hint}</p>` : nothing}
    ${w.url ? html`<p class="url"><code>${w.url}</code>${copyButton(w.url, `the URL of the webhook for ${w.endpoint}`)}</p>` : nothing}
    ${w.watched.length ? html`<p>Watches ${w.watched.map((item, i) => html`${i ? ", " : ""}<code>${item}</code>`)}</p>` : nothing}
    ${w.state === "left" ? nothing : day(w)}
    ${w.id ? html`<p class="quiet">${outside(`https://huggingface.co/settings/webhooks/${encodeURIComponent(w.id)}/activity`, `${w.id} on the Hub`)}</p>` : nothing}
    ${w.changes.length ? html`<details class="history"><summary>${plural(w.changes.length, "change")}</summary>
      <ol>${w.changes.map((c) => html`<li>${when(c.time)} ${c.text}</li>`)}</ol></details>` : nothing}
  </li>`;

// webhooks is the card with them, nothing without any.
export const webhooks = (list) => list.length === 0 ? nothing : html`
  <section class="card" aria-labelledby="h-webhooks"><h2 id="h-webhooks">Webhooks on the Hub</h2>
    <ul class="kept">${list.map(webhook)}</ul></section>`;

// allKept says whether each endpoint has a webhook, so that no URL has to be pasted.
export const allKept = (endpoints, list) => endpoints.every((e) => list.some((w) => w.endpoint === e.name && w.state !== "left"));
