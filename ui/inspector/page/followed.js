// What hubhook follows on the Hub without a webhook.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { ago, plural } from "./format.js";
import { when } from "./parts.js";

const stateClass = (state) => ({ following: "good", failing: "bad", gone: "bad", off: "bad" })[state] ?? "busy";

const item = (f) => html`
  <li>
    <p><code>${f.item}</code> ${f.every_seconds ? `a look every ${f.every_seconds} s` : "by its live feed"}${f.looked ? html`<span class="quiet">, last read ${ago(f.looked)}</span>` : nothing}</p>
    <p><span class="dot ${stateClass(f.state)}"></span> <strong>${f.state}</strong> <span class="quiet">${f.endpoint ? `for ${f.endpoint}, ` : ""}since ${when(f.since)} (${ago(f.since)})</span></p>
    ${f.error ? html`<p class="bad">${f.error}</p>` : nothing}
    ${f.hint ? html`<p class="quiet hint">${f.hint}</p>` : nothing}
    <p class="quiet">${plural(f.deliveries, "delivery", "deliveries")} since hubhook started${f.last_delivered ? html`, the last one ${ago(f.last_delivered)}` : nothing}</p>
  </li>`;

// followed is the card with them, nothing without any.
export const followed = (list) => list.length === 0 ? nothing : html`
  <section class="card" aria-labelledby="h-followed"><h2 id="h-followed">Followed on the Hub</h2>
    <ul class="kept">${list.map(item)}</ul></section>`;
