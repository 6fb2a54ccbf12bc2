// The stream of events, with a word for how fresh the page is.

import { getStatus } from "./api.js";

const firstRetry = 500; // ms
const longestRetry = 10_000; // ms

// Live follows /api/stream for as long as the page is open.
//
// phase is "connecting", "live", "reconnecting", or "locked out" if hubhook no longer accepts this page's cookie.
// on.missed is called whenever events may have been lost, with their number or null. The page then has to fetch its data again.
export class Live {
  phase = "connecting";

  constructor(on) {
    this.on = on;
    this.retry = firstRetry;
    this.everLive = false;
    this.connect();
  }

  connect() {
    const source = new EventSource("/api/stream");
    source.onopen = () => {
      this.retry = firstRetry;
      this.enter("live");
      // A new connection does not know what was missed.
      if (this.everLive) this.on.missed(null);
      this.everLive = true;
    };
    source.onerror = () => {
      // The browser gives up after answers such as 401 and 503, so all retries are made here.
      source.close();
      this.enter("reconnecting");
      this.again();
    };
    for (const name of ["delivery", "attempt", "output", "rejected", "tunnel", "webhook", "status"]) {
      source.addEventListener(name, (e) => this.on[name]?.(JSON.parse(e.data)));
    }
    source.addEventListener("missed", (e) => this.on.missed(JSON.parse(e.data).events));
  }

  again() {
    setTimeout(async () => {
      try {
        await getStatus();
      } catch (e) {
        if (e.status === 401 || e.status === 403) this.enter("locked out");
        if (e.status !== 500) {
          this.again();
          return;
        }
      }
      this.connect();
    }, this.retry);
    this.retry = Math.min(this.retry * 2, longestRetry);
  }

  enter(phase) {
    if (phase === this.phase) return;
    this.phase = phase;
    this.on.phase(phase);
  }
}
