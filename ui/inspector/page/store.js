// The page's state, its address, and when to draw it.

import { DeliveryList, noFilter } from "./deliveries.js";

// The page's address holds the state that must survive a reload: ?view=, ?delivery=, ?compare=A,B and the filters.
function readAddress(search) {
  const params = new URLSearchParams(search);
  const view = params.get("view");
  const pair = (params.get("compare") ?? "").split(",");
  const filter = { ...noFilter };
  for (const name of Object.keys(filter)) filter[name] = params.get(name) ?? "";
  return {
    view: ["refused", "status", "trigger"].includes(view) ? view : "deliveries",
    delivery: params.get("delivery") ?? "",
    compare: pair.length === 2 && pair[0] && pair[1] ? pair : null,
    filter,
  };
}

// address is the inverse of readAddress.
function address(route) {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(route.filter)) if (value) params.set(name, value);
  if (route.view !== "deliveries") params.set("view", route.view);
  if (route.delivery) params.set("delivery", route.delivery);
  if (route.compare) params.set("compare", route.compare.join(","));
  const query = String(params).replaceAll("%2F", "/").replaceAll("%2C", ",").replaceAll("%3A", ":");
  return query ? `?${query}` : "?";
}

const calm = 150; // ms between two drawings that no user action has caused

let draw = () => {};
let scheduled = false;
let later = null;

// onDraw sets the function that draws the page.
export function onDraw(f) {
  draw = f;
}

// redraw draws the page before the next frame, once for all calls until then.
export function redraw() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    clearTimeout(later);
    later = null;
    draw();
  });
}

// redrawSoon is redraw for events from the stream. There may be hundreds a second, so they are drawn together.
export function redrawSoon() {
  later ??= setTimeout(redraw, calm);
}

export const state = {
  route: readAddress(location.search),
  live: null, // the stream, once it is open
  list: new DeliveryList(redraw),
  cursor: "", // ID of the row that the keyboard is on
  status: null,
  statusError: null,
  rejected: [],
  rejectedTotal: 0,
  rejectedSeen: 0, // the total when the reader last saw the refused requests
  tunnel: [],
  toasts: [],
};

// storedCounts returns the numbers of stored deliveries by state, of one endpoint or, with "", of all. It is undefined before they are known.
export const storedCounts = (endpoint) => (endpoint && state.status?.counts_by_endpoint?.[endpoint]) || state.status?.counts;

const followers = [];

// onNavigate calls f with the new route and the one before whenever the address changes.
export function onNavigate(f) {
  followers.push(f);
}

function enter(route) {
  const before = state.route;
  state.route = route;
  for (const f of followers) f(route, before);
  redraw();
}

// navigate changes parts of the route. With replace, the browser's history has no entry for the route before.
export function navigate(change, { replace = false } = {}) {
  const route = { ...state.route, ...change };
  history[replace ? "replaceState" : "pushState"](null, "", address(route));
  enter(route);
}

addEventListener("popstate", () => enter(readAddress(location.search)));

// link returns the address of the page with parts of the route changed.
export const link = (change) => address({ ...state.route, ...change });

let toastID = 0;

// say shows a sentence for a while, and lets screen readers read it out. It may have a link into the page.
export function say(text, { href = "", label = "", bad = false } = {}) {
  const toast = { id: ++toastID, text, href, label, bad };
  state.toasts = [...state.toasts.slice(-2), toast];
  redraw();
  setTimeout(() => dismiss(toast.id), bad ? 12_000 : 6000);
}

export function dismiss(id) {
  state.toasts = state.toasts.filter((t) => t.id !== id);
  redraw();
}

// attempt calls f, and shows the error if f fails. It returns f's result, or undefined.
export async function attempt(act, f) {
  try {
    return await f();
  } catch (e) {
    say(`${act}: ${e.message}`, { bad: true });
    return undefined;
  }
}

// copy puts a text on the clipboard and says whether that worked.
export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    say(`Copied ${what}.`);
  } catch {
    say(`The browser did not let ${what} be copied; select the text and copy it by hand.`, { bad: true });
  }
}
