// Small pieces that several views show.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { clock, moment } from "./format.js";
import { copy, link } from "./store.js";

export const pill = (state) => html`<span class="pill ${state}">${state}</span>`;

export const when = (text) => html`<time datetime=${text} title=${moment(text)}>${clock(text)}</time>`;

export const repoName = (d) =>
  d.repo.name ? html`<span class="repo-type">${d.repo.type}</span> <span class="repo-name">${d.repo.name}</span>` : html`<span class="quiet">none</span>`;

export const tags = (d) => html`${d.synthetic ? html`<span class="tag">${d.source}</span>` : nothing}${d.replay_of ? html`<span class="tag">replay</span>` : nothing}`;

export const deliveryLink = (id, text = id) =>
  html`<a class="id" href=${link({ view: "deliveries", delivery: id, compare: null })}>${text}</a>`;

export const copyButton = (text, what, label = "Copy") =>
  html`<button type="button" class="small" aria-label="Copy ${what}" @click=${() => copy(typeof text === "function" ? text() : text, what)}>${label}</button>`;

// outside is a link to the Hub or any other site.
export const outside = (url, text) => html`<a href=${url} target="_blank" rel="noopener noreferrer">${text}<span class="hidden"> (opens in a new tab)</span></a>`;

// webhookSettings is a link to the Hub's page for making webhooks.
export const webhookSettings = () => outside("https://huggingface.co/settings/webhooks", "your webhook settings");

export const endpointURLs = (endpoints) =>
  html`<ul class="urls">${endpoints.map((e) => html`<li><code>${e.url}</code>${copyButton(e.url, `the URL of ${e.name}`)}</li>`)}</ul>`;

export const problem = (error, retry) => html`
  <div class="problem" role="alert">
    <p>${error.message}</p>
    ${error.status === 401 ? html`<p>Open the URL that hubhook printed at its start, the line that begins with “Inspector”.</p>` : nothing}
    ${retry ? html`<button type="button" @click=${retry}>Try again</button>` : nothing}
  </div>`;

let opener = null; // the element that had the focus before a dialog opened

// showDialogs makes newly drawn dialogs modal, and gives the focus back once they are gone.
export function showDialogs(root) {
  const dialog = root.querySelector("dialog");
  if (dialog && !dialog.open) {
    opener = document.activeElement;
    dialog.showModal();
    const text = dialog.querySelector("textarea");
    if (text) {
      // With the caret at the end, the beginning would be out of sight.
      text.setSelectionRange(0, 0);
      text.scrollTop = 0;
      text.focus();
    }
  } else if (!dialog && opener) {
    if (opener.isConnected) opener.focus();
    opener = null;
  }
}
