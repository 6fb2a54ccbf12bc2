// Replaying all dead deliveries of a filter, one after the other.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { listDeliveries, replay } from "./api.js";
import { count, plural } from "./format.js";
import { problem } from "./parts.js";
import { redraw, state, storedCounts } from "./store.js";

let run = null; // null, or the run that the dialog shows

async function open() {
  const filter = { ...state.route.filter, state: "dead" };
  run = { filter, phase: "counting", ids: [], done: 0, failed: [], error: null, cancelled: false };
  const mine = run;
  redraw();
  try {
    let before = "";
    do {
      const page = await listDeliveries({ ...filter, replayed: "false", limit: 1000, before });
      if (run !== mine) return;
      mine.ids.push(...page.deliveries.map((d) => d.id));
      before = page.next ?? "";
      redraw();
    } while (before);
    mine.phase = "ready";
  } catch (e) {
    mine.error = e;
  }
  redraw();
}

async function start() {
  const mine = run;
  mine.phase = "running";
  // Oldest first, as they came.
  for (const id of mine.ids.toReversed()) {
    if (mine.cancelled) break;
    try {
      await replay(id);
    } catch (e) {
      mine.failed.push(`${id}: ${e.message}`);
      if (e.status === 0 || e.status === 401) break; // the other replays would fail too
    }
    mine.done++;
    redraw();
  }
  mine.phase = "over";
  redraw();
}

function close() {
  if (run) run.cancelled = true;
  run = null;
  redraw();
}

function text() {
  const { phase, ids, done, failed, cancelled } = run;
  switch (phase) {
    case "counting":
      return html`<p role="status">Counting dead deliveries: ${count(ids.length)} so far…</p>`;
    case "ready":
      return ids.length
        ? html`<p>${plural(ids.length, "dead delivery", "dead deliveries")} of this filter ${ids.length === 1 ? "has" : "have"} not been replayed. Each is handled once more, with the same bytes.</p>`
        : html`<p>No dead delivery of this filter is left that was not replayed.</p>`;
    default:
      return html`
        <p role="status">${phase === "running" ? "Replaying" : cancelled ? "Stopped" : "Done"}: ${count(done - failed.length)} of ${count(ids.length)} replayed.</p>
        <progress max=${ids.length} value=${done} aria-label="Replayed"></progress>
        ${failed.length ? html`<div class="problem" role="alert"><p>${plural(failed.length, "delivery", "deliveries")} could not be replayed:</p>
          <ul>${failed.slice(0, 20).map((f) => html`<li>${f}</li>`)}</ul></div>` : nothing}`;
  }
}

function dialog() {
  const { phase, ids, error } = run;
  return html`
    <dialog aria-labelledby="replay-dead-title" @close=${close}>
      <h2 id="replay-dead-title">Replay dead deliveries</h2>
      ${error ? problem(error) : text()}
      <p class="buttons">
        ${phase === "ready" && ids.length ? html`<button type="button" class="primary" @click=${start}>Replay ${count(ids.length)}</button>` : nothing}
        <button type="button" @click=${close}>${phase === "running" ? "Stop" : phase === "over" || phase === "ready" && !ids.length ? "Close" : "Cancel"}</button>
      </p>
    </dialog>`;
}

// replayDead is the button, if there are dead deliveries to replay, and the dialog after a press.
export function replayDead() {
  const { filter } = state.route;
  const counts = storedCounts(filter.endpoint);
  const offered = (filter.state === "" || filter.state === "dead") && counts?.dead > 0;
  return html`
    ${offered ? html`<button type="button" @click=${open}>Replay dead…</button>` : nothing}
    ${run ? dialog() : nothing}`;
}
