// Edit and replay: another payload with the headers of a delivery, checked while it is written.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { live } from "./vendor/lit-html/directives/live.js";
import { readPayload, replay } from "./api.js";
import { diffView } from "./diff-view.js";
import { jsonProblem, place, reindent } from "./format.js";
import { attempt, navigate, redraw, say } from "./store.js";

const drafts = new Map(); // texts that were begun, by ID of the delivery, for as long as the page is open
const pause = 200; // ms without a key before the text is looked at

let editing = null; // null, or {record, original, text, problem, read, sending}
let timer = null;
let asking = null;

export const isEditing = () => editing !== null;

export function edit(record) {
  const original = reindent(record.body);
  editing = { record, original, text: drafts.get(record.id) ?? original, problem: null, read: null, sending: false, checked: false };
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
  editing.checked = false;
  if (text === editing.original) drafts.delete(editing.record.id);
  else drafts.set(editing.record.id, text);
  clearTimeout(timer);
  timer = setTimeout(check, pause);
  redraw();
}

// check tells what is wrong with the text, or what hubhook reads in it.
async function check() {
  asking?.abort();
  const mine = editing;
  if (!mine) return;
  asking = new AbortController();
  const { text } = mine;
  mine.problem = jsonProblem(text);
  mine.read = null;
  redraw();
  try {
    const read = await readPayload(text, asking.signal);
    if (mine.text !== text || mine.problem) return;
    mine.read = read;
    mine.checked = true;
  } catch (e) {
    if (e.name === "AbortError" || mine.text !== text) return;
    // The place of a mistake is told in bytes of what was sent, of which the text is the rest after {"body":
    const byte = /at byte (\d+)/.exec(e.message);
    if (mine.problem && byte) {
      const at = place(text, Math.max(0, Number(byte[1]) - '{"body":'.length));
      mine.problem = `line ${at.line}, column ${at.column}: ${mine.problem}`;
    } else if (!mine.problem) {
      mine.problem = e.message;
    }
  }
  redraw();
}

async function send() {
  const mine = editing;
  if (!mine || mine.sending || jsonProblem(mine.text)) return;
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
  const { problem, read } = editing;
  if (problem) return html`<p id="editor-verdict" class="bad" role="status">${problem}</p>`;
  if (!read) return html`<p id="editor-verdict" class="quiet" role="status">Checking…</p>`;
  if (read.problem) return html`<p id="editor-verdict" class="warn" role="status">It would be stored as dead: ${read.problem}</p>`;
  return html`<p id="editor-verdict" class="good" role="status">Valid. ${read.summary}</p>`;
}

// editorDialog is drawn at the end of the page.
export function editorDialog() {
  if (!editing) return nothing;
  const { record, original, text, problem, sending } = editing;
  return html`
    <dialog class="wide" aria-labelledby="editor-title" @close=${close} @keydown=${key}>
      <h2 id="editor-title">Edit and replay</h2>
      <p class="quiet">The headers of ${record.id} go with it. The delivery itself stays as it is.</p>
      <textarea name="payload" aria-label="Payload" aria-describedby="editor-verdict" spellcheck="false" autocapitalize="off" autocomplete="off"
        aria-invalid=${problem ? "true" : "false"} .value=${live(text)} @input=${(e) => wrote(e.target.value)}></textarea>
      ${verdict()}
      <h3>Against the original</h3>
      ${problem ? html`<p class="quiet">The differences are shown once the payload is valid.</p>` : diffView(original, text, "Differences from the original")}
      <p class="buttons sticky">
        <button type="button" class="primary" ?disabled=${Boolean(problem) || sending} @click=${send}>${sending ? "Replaying…" : "Replay"} <kbd>Ctrl ⏎</kbd></button>
        <button type="button" ?disabled=${text === original} @click=${() => wrote(original)}>Back to the original</button>
        <button type="button" ?disabled=${Boolean(problem)} @click=${() => wrote(reindent(text))}>Format</button>
        <button type="button" @click=${close}>Close</button>
      </p>
    </dialog>`;
}
