// The inspector's page: what is on it, and what keeps it up to date.

import { html, nothing, render } from "./vendor/lit-html/lit-html.js";
import { repeat } from "./vendor/lit-html/directives/repeat.js";
import { compareDialog, compareView, showPair } from "./compare.js";
import { changedDelivery, detailDrawn, detailView, followOutput, refreshDelivery, showDelivery } from "./detail.js";
import { editorDialog } from "./editor.js";
import { count } from "./format.js";
import { helpButton, helpDialog } from "./keyboard.js";
import { listDrawn, listView, reveal, settleList } from "./list.js";
import { Live } from "./live.js";
import { heard } from "./output.js";
import { copyButton, showDialogs } from "./parts.js";
import { loadRejected, lookedAt, refused, rejectedView, unseen } from "./rejected.js";
import { dismiss, link, onDraw, onNavigate, redraw, redrawSoon, say, state } from "./store.js";
import { enterStatus, leaveStatus, loadStatus, loadTunnel, phaseClass, statusDrawn, statusView } from "./status.js";
import { loadSamples, triggerView } from "./trigger.js";

const tabs = [
  ["deliveries", "Deliveries"],
  ["refused", "Refused"],
  ["status", "Status"],
];

function tabLink([view, text]) {
  const here = state.route.view === view;
  const badge = view === "refused" && unseen() > 0 ? html` <span class="badge">${count(unseen())}<span class="hidden"> new</span></span>` : nothing;
  return html`<a href=${link({ view, compare: null, delivery: view === "deliveries" ? state.route.delivery : "" })} aria-current=${here ? "page" : nothing}>${text}${badge}</a>`;
}

const liveTexts = {
  connecting: ["busy", "connecting"],
  live: ["good", "live"],
  reconnecting: ["bad", "hubhook is away; reconnecting"],
  "locked out": ["bad", "hubhook wants its token again: open the URL that it printed"],
};

function freshness() {
  const [kind, text] = state.list.behind ? ["busy", "behind; catching up"] : liveTexts[state.live?.phase ?? "connecting"];
  return html`<span class="live" role="status"><span class="dot ${kind}"></span>${text}</span>`;
}

function publicURL() {
  const s = state.status;
  if (!s) return nothing;
  const { tunnel } = s;
  if (!tunnel) return s.addresses.public ? html`<span class="public"><code>${s.addresses.public}</code>${copyButton(s.addresses.public, "the public URL")}</span>` : nothing;
  return html`<span class="public"><a href=${link({ view: "status", delivery: "", compare: null })}><span class="dot ${phaseClass(tunnel.phase)}"></span>${tunnel.phase === "online" ? "" : `tunnel ${tunnel.phase}`}</a>
    ${tunnel.url ? html`<code title=${tunnel.url}>${tunnel.url}</code>${copyButton(tunnel.url, "the public URL")}` : nothing}</span>`;
}

const header = () => html`
  <header>
    <a class="home" href="?"><svg class="mark" viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="8"/><path d="M11 7v10a5 5 0 0 0 10 0v-3m0 0-3.5 3.5M21 14l3.5 3.5"/></svg><span>hubhook</span></a>
    <nav aria-label="Views">${tabs.map(tabLink)}</nav>
    ${publicURL()}
    ${freshness()}
    <a class="button primary" href=${link({ view: "trigger", delivery: "", compare: null })} aria-current=${state.route.view === "trigger" ? "page" : nothing}>Trigger</a>
    ${helpButton()}
  </header>`;

function main() {
  const { view, delivery, compare } = state.route;
  switch (view) {
    case "refused":
      return rejectedView();
    case "status":
      return statusView();
    case "trigger":
      return triggerView();
  }
  if (compare) return compareView();
  return html`<div class="split ${delivery ? "open" : ""}">${listView()}${delivery ? detailView() : nothing}</div>`;
}

const toasts = () => html`
  <div class="toasts" role="status" aria-live="polite">${repeat(state.toasts, (t) => t.id, (t) => html`
    <div class="toast ${t.bad ? "bad" : ""}"><span>${t.text}</span>
      ${t.href ? html`<a href=${t.href}>${t.label}</a>` : nothing}
      <button type="button" class="small" aria-label="Dismiss" @click=${() => dismiss(t.id)}>×</button></div>`)}</div>`;

// One element holds everything, so that a view that is not drawn leaves nothing behind.
const root = document.createElement("div");
root.id = "app";
document.body.append(root);

onDraw(() => {
  settleList();
  followOutput(() => render(html`
    <a class="skip" href="#main">Skip to the content</a>
    ${header()}
    <main id="main" tabindex="-1">${main()}</main>
    ${editorDialog()}${compareDialog()}${helpDialog()}${toasts()}`, root));
  showDialogs(root);
  listDrawn();
  detailDrawn();
  statusDrawn();
});

let unseenDeliveries = 0; // deliveries that came while the page was in the background

function entitle() {
  document.title = `${unseenDeliveries ? `(${count(unseenDeliveries)}) ` : ""}${title(state.route)} · hubhook inspector`;
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  unseenDeliveries = 0;
  entitle();
});

function title({ view, delivery, compare }) {
  if (compare) return "Two deliveries";
  return { refused: "Refused", status: "Status", trigger: "Send a sample event" }[view] ?? (delivery || "Deliveries");
}

function follow(route, before) {
  entitle();
  if (String(Object.values(route.filter)) !== String(Object.values(before?.filter ?? []))) state.list.show(route.filter);
  showDelivery(route.view === "deliveries" ? route.delivery : "");
  showPair(route.view === "deliveries" ? route.compare : null);
  if (route.delivery && route.delivery !== before?.delivery) {
    state.cursor = route.delivery;
    reveal(route.delivery);
  }
  if (route.view === "status" && before?.view !== "status") enterStatus();
  if (route.view !== "status") leaveStatus();
  if (route.view === "trigger") loadSamples();
  lookedAt();
}

onNavigate(follow);

// Links into the page change what is shown without loading it anew.
addEventListener("click", (e) => {
  const a = e.target.closest?.("a[href]");
  if (!a || e.defaultPrevented || e.button !== 0 || e.ctrlKey || e.metaKey || e.shiftKey || e.altKey || a.target) return;
  const url = new URL(a.href);
  if (url.origin !== location.origin || url.pathname !== location.pathname || url.hash) return;
  e.preventDefault();
  if (url.href !== location.href) history.pushState(null, "", url.href);
  dispatchEvent(new PopStateEvent("popstate"));
});

addEventListener("unhandledrejection", (e) => say(`Something went wrong on this page: ${e.reason?.message ?? e.reason}`, { bad: true }));

state.live = new Live({
  phase(phase) {
    if (phase === "live") {
      loadStatus();
      loadRejected();
    }
    redraw();
  },
  delivery(d) {
    if (document.hidden && !state.list.get(d.id)) {
      unseenDeliveries++;
      entitle();
    }
    state.list.apply(d);
    changedDelivery(d.id);
    loadStatus();
    redrawSoon();
  },
  output(piece) {
    heard(piece);
    if (piece.delivery === state.route.delivery) redrawSoon();
  },
  rejected: refused,
  status: loadStatus,
  webhook: loadStatus,
  tunnel() {
    loadStatus();
    loadTunnel();
  },
  missed() {
    state.list.refresh();
    refreshDelivery();
    loadStatus();
    loadRejected();
  },
});

follow(state.route, null);
redraw();
