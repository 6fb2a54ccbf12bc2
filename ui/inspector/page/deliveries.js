// The deliveries of the list: fetched from the API, and kept up to date by the stream.

import { listDeliveries } from "./api.js";

export const states = ["waiting", "running", "retrying", "done", "dead", "skipped", "merged", "discarded"];
export const finished = new Set(["done", "dead", "skipped", "merged", "discarded"]);

const pageSize = 200;
const mostRows = 20_000; // beyond it the oldest rows are dropped; they can be fetched again
const mostArrived = 2000; // deliveries from the stream that are not in the rows yet; they pile up while the page is hidden and not drawn
const betweenRefreshes = 2000; // ms; constant fetching would slow down a page that lags already

export const noFilter = { endpoint: "", state: "", scope: "", repo: "", q: "" };

// matches says whether a filter picks a delivery, by the rules of GET /api/deliveries.
export function matches(d, filter) {
  if (filter.endpoint && d.endpoint !== filter.endpoint) return false;
  if (filter.state && d.state !== filter.state) return false;
  if (filter.scope && d.event.scope !== filter.scope && !d.event.scope.startsWith(`${filter.scope}.`)) return false;
  if (filter.repo && filter.repo !== d.repo.name && filter.repo !== `${d.repo.type}:${d.repo.name}`) return false;
  if (filter.q) {
    const q = filter.q.toLowerCase();
    if (![d.id, d.webhook_id, d.repo.name, d.reason].some((text) => text.toLowerCase().includes(q))) return false;
  }
  return true;
}

const rank = { waiting: 0, running: 1, retrying: 2 };

// newer says whether a is a later view of a delivery than b. An answer and the stream may cross, and views have no version to compare.
function newer(a, b) {
  if (a.attempts !== b.attempts) return a.attempts > b.attempts;
  const [ra, rb] = [rank[a.state] ?? 3, rank[b.state] ?? 3];
  if (ra !== rb) return ra > rb;
  return a.duplicates + a.replays >= b.duplicates + b.replays;
}

const newestFirst = (a, b) => (a.id < b.id ? 1 : a.id > b.id ? -1 : 0);

// DeliveryList holds the rows of one filter, newest first. It calls changed after each visible change.
export class DeliveryList {
  rows = [];
  filter = noFilter;
  next = null; // the cursor of the deliveries after the rows; null if there are none
  loading = false;
  loaded = false; // whether rows has the answer for filter
  error = null;
  behind = false; // events were lost, and the rows were not fetched again since
  anchor = undefined; // ID of the row that must stay in place on the screen

  #index = new Map(); // rows by ID
  #arrived = new Map(); // deliveries from the stream since the last merge into the rows, by ID
  #shift = 0; // rows added before the anchor since the last call of settle
  #generation = 0; // of the newest request; answers to older requests are dropped
  #refreshTimer = null;
  #lastRefresh = -Infinity;

  constructor(changed) {
    this.changed = changed;
  }

  // show starts again with a filter.
  async show(filter) {
    this.filter = filter;
    this.rows = [];
    this.#index.clear();
    this.#arrived.clear();
    this.next = null;
    this.loaded = false;
    await this.#load(pageSize);
  }

  // refresh fetches the shown rows again, at least the first n.
  refresh(n = pageSize) {
    this.behind = true;
    this.changed();
    if (this.#refreshTimer !== null) return;
    const wait = Math.max(0, this.#lastRefresh + betweenRefreshes - performance.now());
    this.#refreshTimer = setTimeout(async () => {
      this.#refreshTimer = null;
      this.#lastRefresh = performance.now();
      this.behind = false;
      await this.#load(Math.max(n, Math.min(this.rows.length, 1000)));
    }, wait);
  }

  // more fetches the rows after the last one.
  async more() {
    if (this.loading || this.next === null) return;
    const generation = this.#generation;
    this.loading = true;
    this.changed();
    try {
      const page = await listDeliveries({ ...this.filter, before: this.next, limit: pageSize });
      if (generation !== this.#generation) return;
      this.error = null;
      this.next = page.next;
      const known = page.deliveries.filter((d) => !this.#index.has(d.id));
      for (const d of known) this.#index.set(d.id, d);
      this.rows = this.rows.concat(known);
    } catch (e) {
      if (generation === this.#generation) this.error = e;
    } finally {
      if (generation === this.#generation) this.loading = false;
      this.changed();
    }
  }

  async #load(n) {
    const generation = ++this.#generation;
    this.loading = true;
    this.changed();
    try {
      const page = await listDeliveries({ ...this.filter, limit: n });
      if (generation !== this.#generation) return;
      this.error = null;
      this.loaded = true;
      this.next = page.next;
      this.rows = page.deliveries;
      this.#index = new Map(page.deliveries.map((d) => [d.id, d]));
    } catch (e) {
      if (generation !== this.#generation) return;
      this.error = e;
    }
    this.loading = false;
    this.changed();
  }

  get(id) {
    return this.#arrived.get(id) ?? this.#index.get(id);
  }

  position(id) {
    let low = 0;
    let high = this.rows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.rows[middle].id > id) low = middle + 1;
      else high = middle;
    }
    return this.rows[low]?.id === id ? low : -1;
  }

  // apply stores a delivery from the stream. settle later merges all stored ones into the rows at once.
  apply(d) {
    this.#arrived.set(d.id, d);
    if (this.#arrived.size <= mostArrived) return;
    if (this.loaded) {
      this.#merge();
    } else {
      this.#arrived.clear();
      this.refresh();
    }
  }

  // settle merges the arrived deliveries into the rows. It returns how many rows were added before the anchor since its last call.
  settle() {
    this.#merge();
    const shift = this.#shift;
    this.#shift = 0;
    return shift;
  }

  #merge() {
    if (this.#arrived.size === 0 || !this.loaded) return;
    const fresh = [];
    let changed = false; // some rows were replaced or removed
    for (const d of this.#arrived.values()) {
      const known = this.#index.get(d.id);
      const fits = matches(d, this.filter);
      if (!known) {
        // A delivery older than the last row comes later, with its page.
        if (fits && (this.next === null || this.rows.length === 0 || d.id > this.rows.at(-1).id)) fresh.push(d);
      } else if (!fits) {
        this.#index.delete(d.id);
        changed = true;
      } else if (newer(d, known)) {
        this.#index.set(d.id, d);
        changed = true;
      }
    }
    this.#arrived.clear();
    const before = this.anchor === undefined ? -1 : this.position(this.anchor);
    if (changed) this.rows = this.rows.map((row) => this.#index.get(row.id)).filter(Boolean);
    if (fresh.length) {
      fresh.sort(newestFirst);
      for (const d of fresh) this.#index.set(d.id, d);
      const inOrder = this.rows.length === 0 || fresh.at(-1).id > this.rows[0].id;
      this.rows = fresh.concat(this.rows);
      if (!inOrder) this.rows.sort(newestFirst);
      if (this.rows.length > mostRows) {
        for (const d of this.rows.splice(mostRows)) this.#index.delete(d.id);
        this.next = this.rows.at(-1).id;
      }
    }
    if (before < 0) return;
    const after = this.position(this.anchor);
    if (after >= 0) this.#shift += after - before;
  }
}
