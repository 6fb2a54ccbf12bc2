// Edit and replay: another payload with the headers of a delivery, checked while you type.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { live } from "./vendor/lit-html/directives/live.js";
import { readPayload, replay } from "./api.js";
import { diffView } from "./diff-view.js";
import { reindent } from "./format.js";
import { attempt, navigate, redraw, say } from "./store.js";

const drafts = new Map(); // unfinished texts by delivery ID, for as long as the page is open
const pause = 200; // ms without a key before the text is checked

// null, or the delivery, its payload, the current text, the text that was checked last, and the result of that check.
let editing = null;
let timer = null;
let asking = null;

export function edit(record) {
  const original = reindent(record.body);
  editing = { record, original, text: drafts.get(record.id) ?? original, readText: null, reading: null, error: null, sending: false };
  check();
  redraw();
}

function close() {
  clearTimeout(timer);
  asking?.abort();
  editing = null;
  redraw();
}

function wrote(text) {
  editing.text = text;
  if (text === editing.original) drafts.delete(editing.record.id);
  else drafts.set(editing.record.id, text);
  clearTimeout(timer);
  timer = setTimeout(check, pause);
  redraw();
}

// check lets hubhook read the text, so that the page says the same as an endpoint would.
async function check() {
  asking?.abort();
  const mine = editing;
  if (!mine) return;
  asking = new AbortController();
  const { text } = mine;
  try {
    mine.reading = await readPayload(text, asking.signal);
    mine.error = null;
  } catch (e) {
    if (e.name === "AbortError") return;
    mine.reading = null;
    mine.error = e;
  }
  mine.readText = text;
  redraw();
}

// isValid is about the current text only.
const isValid = () => editing.readText === editing.text && editing.reading !== null && !editing.reading.refused;

async function send() {
  const mine = editing;
  if (!mine || mine.sending || !isValid()) return;
  mine.sending = true;
  redraw();
  const answer = await attempt("Replaying the edited payload", () => replay(mine.record.id, mine.text));
  mine.sending = false;
  if (answer) {
    drafts.delete(mine.record.id);
    close();
    navigate({ view: "deliveries", delivery: answer.delivery, compare: null });
    say("Replayed with the edited payload.");
  }
  redraw();
}

function key(e) {
  if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) {
    e.preventDefault();
    send();
  }
}

function verdict() {
  const { reading, error, readText, text } = editing;
  const sentence = (kind, words) => html`<p id="editor-verdict" class=${kind} role="status">${words}</p>`;
  if (error) return sentence("bad", error.message);
  if (!reading || (readText !== text && reading.refused)) return sentence("quiet", "Checking…");
  if (reading.refused) return sentence("bad", reading.refused);
  if (reading.problem) return sentence("warn", `It would be stored as dead: ${reading.problem}`);
  return sentence("good", `Valid. ${reading.summary}`);
}

function against() {
  const { original, readText, reading } = editing;
  if (readText === null) return nothing;
  if (reading?.refused) return html`<p class="quiet">The differences are shown once the payload is valid.</p>`;
  return diffView(original, readText, "Differences from the original");
}

// editorDialog is drawn at the end of the page.
export function editorDialog() {
  if (!editing) return nothing;
  const { record, original, text, reading, sending } = editing;
  return html`
    <dialog class="wide" aria-labelledby="editor-title" @close=${close} @keydown=${key}>
      <h2 id="editor-title">Edit and replay</h2>
      <p class="quiet">The headers of <span class="id">${record.id}</span> go with it. The delivery itself stays as it is.</p>
      <textarea name="payload" aria-label="Payload" aria-describedby="editor-verdict" spellcheck="false" autocapitalize="off" autocomplete="off"
        aria-invalid=${reading?.refused ? "true" : "false"} .value=${live(text)} @input=${(e) => wrote(e.target.value)}></textarea>
      ${verdict()}
      <h3>Against the original</h3>
      ${against()}
      <p class="buttons sticky">
        <button type="button" class="primary" ?disabled=${!isValid() || sending} @click=${send}>${sending ? "Replaying…" : "Replay"} <kbd>Ctrl ⏎</kbd></button>
        <button type="button" ?disabled=${text === original} @click=${() => wrote(original)}>Back to the original</button>
        <button type="button" ?disabled=${!isValid()} @click=${() => wrote(reindent(text))}>Format</button>
        <button type="button" @click=${close}>Close</button>
      </p>
    </dialog>`;
}
