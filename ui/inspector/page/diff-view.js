// The differences between two texts, line by line, with some context.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { diffLines } from "./vendor/diff/diff/line.js";
import { count, plural, reindent } from "./format.js";

const context = 3; // lines
const patience = 1000; // ms
const mostLines = 2000; // drawn
const longestLine = 2000; // characters drawn

// differences returns the changed lines with their context as rows {kind, text, left, right}: kind is "+", "-", " " or "gap".
// It returns null if that takes too long.
export function differences(before, after) {
  const parts = diffLines(before, after, { timeout: patience });
  if (!parts) return null;
  const rows = [];
  let left = 1;
  let right = 1;
  parts.forEach((part, i) => {
    const lines = part.value.replace(/\n$/, "").split("\n");
    if (part.added) {
      for (const text of lines) rows.push({ kind: "+", text, right: right++ });
    } else if (part.removed) {
      for (const text of lines) rows.push({ kind: "-", text, left: left++ });
    } else {
      const head = i === 0 ? 0 : context;
      const tail = i === parts.length - 1 ? 0 : context;
      lines.forEach((text, n) => {
        const near = n < head || n >= lines.length - tail;
        if (near) rows.push({ kind: " ", text, left, right });
        else if (rows.at(-1)?.kind !== "gap") rows.push({ kind: "gap", lines: lines.length - head - tail });
        left++;
        right++;
      });
    }
  });
  return rows;
}

const remembered = []; // the newest comparisons, because a page is drawn more often than its texts change

function compared(before, after) {
  let found = remembered.find((c) => c.before === before && c.after === after);
  if (!found) {
    found = { before, after, rows: differences(`${reindent(before)}\n`, `${reindent(after)}\n`) };
    remembered.unshift(found);
    remembered.length = Math.min(remembered.length, 4);
  }
  return found.rows;
}

// diffView shows how the JSON after differs from the JSON before. It breaks both into indented lines first.
export function diffView(before, after, label) {
  const rows = compared(before, after);
  if (rows === null) return html`<p class="quiet">The two differ in so much that comparing them takes too long.</p>`;
  const added = rows.filter((r) => r.kind === "+").length;
  const removed = rows.filter((r) => r.kind === "-").length;
  if (added + removed === 0) return html`<p class="quiet" role="status">${before === after ? "No difference, to the byte." : "No difference but in white space."}</p>`;
  return html`
    <p class="quiet" role="status"><span class="added">${plural(added, "line")} added</span>, <span class="removed">${plural(removed, "line")} removed</span></p>
    <div class="diff" role="region" aria-label=${label} tabindex="0">
      ${rows.slice(0, mostLines).map((r) => r.kind === "gap"
        ? html`<div class="gap">${plural(r.lines, "equal line")}</div>`
        : html`<div class=${{ "+": "plus", "-": "minus", " ": "same" }[r.kind]}><span class="line">${r.left ?? ""}</span><span class="line">${r.right ?? ""}</span><span
            class="sign">${r.kind === " " ? nothing : r.kind}</span><code>${r.text.length > longestLine ? `${r.text.slice(0, longestLine)}…` : r.text}</code></div>`)}
      ${rows.length > mostLines ? html`<div class="gap">${count(rows.length - mostLines)} more lines are not shown</div>` : nothing}
    </div>`;
}
