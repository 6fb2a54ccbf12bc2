// The form for a sample event. Its fields come from the samples.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { live } from "./vendor/lit-html/directives/live.js";
import { getSamples, trigger } from "./api.js";
import { quote } from "./format.js";
import { problem } from "./parts.js";
import { navigate, redraw, say, state } from "./store.js";

// The fields that people change first; the other fields are below.
const common = /^(repo\.(type|name|private)|updatedRefs\.0\.(ref|oldSha|newSha)|updatedFiles\.0\.(path|action)|discussion\.(num|title|status|isPullRequest)|comment\.(content|hidden)|movedTo\.name|updatedConfig\..*)$/;

const choices = {
  "repo.type": ["model", "dataset", "space", "bucket"],
  "discussion.status": ["open", "closed", "merged", "draft"],
  "updatedFiles.0.action": ["add", "delete"],
};

let samples = null;
let error = null;
let chosen = 0; // index of the chosen sample
let endpoint = "";
let set = new Map(); // changed values by path
let sending = false;
let refusal = null;

export async function loadSamples() {
  if (samples) return;
  error = null;
  try {
    ({ samples } = await getSamples());
    chosen = Math.max(0, samples.findIndex((s) => s.scope === "repo.content"));
  } catch (e) {
    error = e;
  }
  redraw();
}

// leaves lists a payload's values that are no objects or arrays, by path. It leaves out the event: that is chosen, not typed.
function leaves(value, path = "", found = []) {
  if (path === "event" || path === "webhook") return found;
  if (value !== null && typeof value === "object") {
    for (const [key, child] of Object.entries(value)) leaves(child, path ? `${path}.${key}` : key, found);
  } else {
    found.push({ path, value });
  }
  return found;
}

function change(leaf, text) {
  if (text === asText(leaf.value)) set.delete(leaf.path);
  else set.set(leaf.path, text);
  refusal = null;
  redraw();
}

const asText = (value) => (typeof value === "string" ? value : JSON.stringify(value));

// typed converts a text to the leaf's type. A text that doesn't fit stays a text, and hubhook says what is wrong with it.
function typed(leaf, text) {
  if (typeof leaf.value === "string") return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function field(leaf) {
  const text = set.get(leaf.path) ?? asText(leaf.value);
  const changed = set.has(leaf.path);
  const options = choices[leaf.path] ?? (typeof leaf.value === "boolean" ? ["true", "false"] : null);
  const id = `field-${leaf.path}`;
  return html`
    <div class="field ${changed ? "changed" : ""}">
      <label for=${id}><code>${leaf.path}</code></label>
      ${options
        ? html`<select id=${id} @change=${(e) => change(leaf, e.target.value)}>${options.map((o) => html`<option value=${o} .selected=${o === text}>${o}</option>`)}</select>`
        : leaf.path === "comment.content"
          ? html`<textarea id=${id} rows="3" .value=${live(text)} @input=${(e) => change(leaf, e.target.value)}></textarea>`
          : html`<input id=${id} autocomplete="off" spellcheck="false" .value=${live(text)} @input=${(e) => change(leaf, e.target.value)}>`}
    </div>`;
}

async function send(e) {
  e.preventDefault();
  const sample = samples[chosen];
  const all = leaves(sample.body);
  sending = true;
  refusal = null;
  redraw();
  try {
    const fields = Object.fromEntries([...set].map(([path, text]) => [path, typed(all.find((l) => l.path === path), text)]));
    // Samples of one event differ in the type of repo.
    if (samples.some((s) => s !== sample && s.scope === sample.scope && s.action === sample.action)) fields["repo.type"] ??= sample.body.repo.type;
    const answer = await trigger({ endpoint: chosenEndpoint(), scope: sample.scope, action: sample.action, set: fields });
    navigate({ view: "deliveries", delivery: answer.delivery, compare: null });
    say("Sent. This is its delivery.");
  } catch (e) {
    refusal = e;
  }
  sending = false;
  redraw();
}

const chosenEndpoint = () => endpoint || state.status?.endpoints[0]?.name || "";

const nameOf = (s) => `${s.scope}/${s.action}${s.body.repo.type === "bucket" ? " of a bucket" : ""}`;

// equivalent returns the command that does the same.
function equivalent(sample) {
  const words = ["hubhook trigger", sample.scope, sample.action];
  if (state.status?.endpoints.length > 1) words.push("--endpoint", chosenEndpoint());
  const sets = [...set];
  if (sample.body.repo.type === "bucket" && !set.has("repo.type")) sets.unshift(["repo.type", "bucket"]);
  for (const [path, text] of sets) words.push("--set", /^[\w./:@-]+$/.test(text) ? `${path}=${text}` : quote(`${path}=${text}`));
  return words.join(" ");
}

function form() {
  const sample = samples[chosen];
  const all = leaves(sample.body);
  const first = all.filter((l) => common.test(l.path));
  const rest = all.filter((l) => !common.test(l.path));
  const endpoints = state.status?.endpoints ?? [];
  return html`
    <form class="trigger" @submit=${send}>
      <div class="field"><label for="trigger-event">Event</label>
        <select id="trigger-event" @change=${(e) => {
          chosen = Number(e.target.value);
          set = new Map();
          refusal = null;
          redraw();
        }}>${samples.map((s, i) => html`<option value=${i} .selected=${i === chosen}>${nameOf(s)}</option>`)}</select></div>
      <div class="field"><label for="trigger-endpoint">Endpoint</label>
        <select id="trigger-endpoint" @change=${(e) => {
          endpoint = e.target.value;
          redraw();
        }}>${endpoints.map((e) => html`<option value=${e.name} .selected=${e.name === chosenEndpoint()}>${e.name}</option>`)}</select></div>
      <h2>Fields</h2>
      <p class="quiet">What follows from other fields, such as URLs from the repo’s name, follows them by itself.</p>
      ${first.map(field)}
      <details><summary>All other fields (${rest.length})</summary>${rest.map(field)}</details>
      ${refusal ? problem(refusal) : nothing}
      <p class="buttons sticky"><button type="submit" class="primary" ?disabled=${sending || endpoints.length === 0}>${sending ? "Sending…" : "Send"}</button>
        <button type="button" ?disabled=${set.size === 0} @click=${() => {
          set = new Map();
          redraw();
        }}>Back to the sample</button></p>
      <p class="quiet">The same in a terminal: <code class="command">${equivalent(sample)}</code></p>
    </form>`;
}

export const triggerView = () => html`
  <section class="pane page" aria-labelledby="trigger-title">
    <h1 id="trigger-title">Send a sample event</h1>
    <p>It goes through the front door, with this server’s secret, as if the Hub had sent it.</p>
    ${error ? problem(error, loadSamples) : samples ? form() : html`<p class="quiet" role="status">Loading the samples…</p>`}
  </section>`;
