// The keys of the page, and the help that lists them.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { chooseOther } from "./compare.js";
import { replayNow, withDelivery } from "./detail.js";
import { edit } from "./editor.js";
import { scrollToTop, step } from "./list.js";
import { navigate, redraw, state } from "./store.js";

let helping = false;

function help() {
  helping = true;
  redraw();
}

function closeHelp() {
  helping = false;
  redraw();
}

function open() {
  if (state.cursor) navigate({ view: "deliveries", delivery: state.cursor, compare: null });
}

function back() {
  const { view, delivery, compare } = state.route;
  if (compare) navigate({ compare: null });
  else if (view !== "deliveries") navigate({ view: "deliveries" });
  else if (delivery) navigate({ delivery: "" });
}

function search() {
  if (state.route.view !== "deliveries" || state.route.compare) navigate({ view: "deliveries", compare: null });
  requestAnimationFrame(() => {
    // On a narrow page the list is behind the delivery.
    const field = document.getElementById("search");
    if (field && field.offsetParent === null) navigate({ delivery: "" });
    requestAnimationFrame(() => field?.focus());
  });
}

// Keys with their actions. The list's keys work in the list only.
const keys = [
  { keys: ["j"], says: "next delivery", act: () => step(1), list: true },
  { keys: ["k"], says: "previous delivery", act: () => step(-1), list: true },
  { keys: ["g"], says: "newest delivery", act: () => { state.cursor = ""; scrollToTop(); step(0); }, list: true },
  { keys: ["Enter"], name: "⏎", says: "open it", act: open, list: true },
  { keys: ["r"], says: "replay it", act: () => withDelivery(replayNow) },
  { keys: ["e"], says: "edit and replay it", act: () => withDelivery(edit) },
  { keys: ["c"], says: "compare it with another one", act: () => withDelivery(chooseOther) },
  { keys: ["t"], says: "send a sample event", act: () => navigate({ view: "trigger", compare: null }) },
  { keys: ["/"], says: "search", act: search },
  { keys: ["Escape"], name: "Esc", says: "close what is open", act: back },
  { keys: ["?"], says: "this help", act: help },
];

const writes = (element) => element instanceof HTMLInputElement || element instanceof HTMLTextAreaElement || element instanceof HTMLSelectElement || element?.isContentEditable;

addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey || e.defaultPrevented || document.querySelector("dialog[open]")) return;
  if (writes(e.target)) {
    if (e.key === "Escape") e.target.blur();
    return;
  }
  // Enter and Space belong to the focused element, if it can be pressed.
  if (e.key === "Enter" && e.target.closest("a, button, summary")) return;
  const key = keys.find((k) => k.keys.includes(e.key));
  if (!key || (key.list && (state.route.view !== "deliveries" || state.route.compare))) return;
  e.preventDefault();
  key.act();
});

export const helpButton = () => html`<button type="button" class="small" aria-label="Keys" title="Keys (?)" @click=${help}>?</button>`;

export function helpDialog() {
  if (!helping) return nothing;
  return html`
    <dialog aria-labelledby="help-title" @close=${closeHelp}>
      <h2 id="help-title">Keys</h2>
      <dl class="keys">${keys.map((k) => html`<dt><kbd>${k.name ?? k.keys[0]}</kbd></dt><dd>${k.says}</dd>`)}
        <dt><kbd>Ctrl ⏎</kbd></dt><dd>replay what is edited</dd></dl>
      <p class="buttons"><button type="button" @click=${closeHelp}>Close</button></p>
    </dialog>`;
}
