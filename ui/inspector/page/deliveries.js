// The deliveries that the list shows: what was fetched, kept up to date by what the stream tells.

import { listDeliveries } from "./api.js";

export const states = ["waiting", "running", "retrying", "done", "dead", "skipped", "merged", "discarded"];
export const finished = new Set(["done", "dead", "skipped", "merged", "discarded"]);

const pageSize = 200;
const mostRows = 20_000; // beyond it the oldest are let go; they can be fetched again
const mostArrived = 2000; // told by the stream and not in the rows yet: a page that nobody looks at is not drawn
const betweenRefreshes = 2000; // ms; a page that can't follow is not made slower by fetching all the time

export const noFilter = { endpoint: "", state: "", scope: "", repo: "", q: "" };

// matches says whether the list of a filter has a delivery, by the rules of GET /api/deliveries.
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

// newer says whether a is a later view of a delivery than b. Where an answer and the stream cross, nothing else tells.
function newer(a, b) {
  if (a.attempts !== b.attempts) return a.attempts > b.attempts;
  const [ra, rb] = [rank[a.state] ?? 3, rank[b.state] ?? 3];
  if (ra !== rb) return ra > rb;
  return a.duplicates + a.replays >= b.duplicates + b.replays;
}

const newestFirst = (a, b) => (a.id < b.id ? 1 : a.id > b.id ? -1 : 0);

// DeliveryList holds the rows of one filter, newest first. It calls changed after each change that is to be seen.
export class DeliveryList {
  rows = [];
  filter = noFilter;
  next = null; // the cursor of what comes after the rows; null if that is all
  loading = false;
  loaded = false; // whether rows has an answer to filter
  error = null;
  behind = false; // events were lost, and the rows are not fetched again yet
  anchor = undefined; // ID of the row that is to stay where it is

  #index = new Map(); // rows by ID
  #arrived = new Map(); // what the stream told since the rows were last put together
  #shift = 0; // rows that came before the anchor since settle was last called
  #generation = 0; // answers to older questions are dropped
  #refreshTimer = null;
  #lastRefresh = -Infinity;

  constructor(changed) {
    this.changed = changed;
  }

  // show starts anew with a filter.
  async show(filter) {
    this.filter = filter;
    this.rows = [];
    this.#index.clear();
    this.#arrived.clear();
    this.next = null;
    this.loaded = false;
    await this.#load(pageSize);
  }

  // refresh fetches again what is shown, at least the first n rows.
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

  // apply takes in what the stream tells of a delivery. settle brings it into the rows, once for all that came since.
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

  // settle brings what has arrived into the rows, and returns how many came before the anchor since it was last called.
  settle() {
    this.#merge();
    const shift = this.#shift;
    this.#shift = 0;
    return shift;
  }

  #merge() {
    if (this.#arrived.size === 0 || !this.loaded) return;
    const fresh = [];
    let changed = false; // some of the rows are others, or gone
    for (const d of this.#arrived.values()) {
      const known = this.#index.get(d.id);
      const fits = matches(d, this.filter);
      if (!known) {
        // What is older than the last row comes with the page that it belongs to.
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
