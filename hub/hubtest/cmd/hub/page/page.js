// Keeps the lists up to date: every second it fetches the page again and takes over the parts marked data-live.
"use strict";

async function refresh() {
  const answer = await fetch(document.body.dataset.path, {cache: "no-store"});
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const old of document.querySelectorAll("[data-live]")) {
    const now = fresh.getElementById(old.id);
    if (!now || old.contains(document.activeElement)) continue;
    for (const details of old.querySelectorAll("details[open]")) {
      fresh.getElementById(details.id)?.setAttribute("open", "");
    }
    if (now.innerHTML !== old.innerHTML) old.replaceWith(document.adoptNode(now));
  }
}

(async () => {
  for (;;) {
    await new Promise(done => setTimeout(done, 1000));
    if (document.hidden) continue;
    try {
      await refresh();
    } catch {
      // The Hub has ended, or is being started again.
    }
  }
})();
