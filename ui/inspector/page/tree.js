// A payload as a tree that folds. Only unfolded parts are in the document, so that a large payload costs only its visible part.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { count, isExact, parseExact, plural } from "./format.js";

const firstChildren = 100;
const moreChildren = 1000;
const firstCharacters = 2000;

// Tree holds which parts of one payload are unfolded.
export class Tree {
  #open = new Map(); // by path
  #children = new Map(); // how many children are shown, by path
  #whole = new Set(); // paths of long strings that are shown whole

  // text is JSON; redraw is called when something is folded or unfolded.
  constructor(text, redraw) {
    this.redraw = redraw;
    try {
      this.value = parseExact(text);
    } catch (e) {
      this.error = e.message;
    }
  }

  render() {
    if (this.error) return html`<p class="problem">This is no JSON, so there is no tree of it: ${this.error}</p>`;
    return html`<div class="tree">${this.#node("", this.value, "", 0)}</div>`;
  }

  #isOpen(path, depth) {
    return this.#open.get(path) ?? depth < 2;
  }

  // unfold opens or closes all levels down to a depth that a page can handle.
  unfold(open) {
    this.#open.clear();
    const visit = (value, path, left) => {
      if (!isContainer(value) || left === 0) return;
      this.#open.set(path, open || path === "");
      for (const [key, child] of entries(value).slice(0, firstChildren)) visit(child, join(path, key), left - 1);
    };
    visit(this.value, "", 6);
    this.redraw();
  }

  #node(key, value, path, depth) {
    const name = key === "" ? nothing : html`<span class="key">${key}</span>: `;
    if (!isContainer(value)) return html`<div class="leaf" title=${path}>${name}${this.#scalar(value, path)}</div>`;
    const all = entries(value);
    const bracket = Array.isArray(value) ? ["[", "]"] : ["{", "}"];
    if (all.length === 0) return html`<div class="leaf" title=${path}>${name}${bracket.join("")}</div>`;
    const open = this.#isOpen(path, depth);
    const what = Array.isArray(value) ? plural(all.length, "item") : plural(all.length, "field");
    return html`
      <details .open=${open} @toggle=${(e) => this.#toggled(e, path, depth)}>
        <summary title=${path || nothing}>${name}${bracket[0]}<span class="quiet"> ${what} </span>${open ? nothing : bracket[1]}</summary>
        ${open ? this.#inside(all, path, depth) : nothing}
      </details>`;
  }

  #toggled(e, path, depth) {
    e.stopPropagation();
    if (e.target.open === this.#isOpen(path, depth)) return;
    this.#open.set(path, e.target.open);
    this.redraw();
  }

  #inside(all, path, depth) {
    const shown = this.#children.get(path) ?? firstChildren;
    const left = all.length - shown;
    return html`
      <div class="inside">
        ${all.slice(0, shown).map(([key, child]) => this.#node(key, child, join(path, key), depth + 1))}
        ${left > 0 ? html`<button type="button" class="small" @click=${() => {
          this.#children.set(path, shown + moreChildren);
          this.redraw();
        }}>Show ${count(Math.min(left, moreChildren))} more of ${count(left)}</button>` : nothing}
      </div>`;
  }

  #scalar(value, path) {
    if (isExact(value)) return html`<span class="number">${value.rawJSON}</span>`;
    if (typeof value !== "string") return html`<span class=${value === null ? "null" : typeof value}>${String(value)}</span>`;
    if (value.length <= firstCharacters || this.#whole.has(path)) return html`<span class="string">${quoted(value)}</span>`;
    return html`<span class="string">${quoted(value.slice(0, firstCharacters))}</span> <button type="button" class="small" @click=${() => {
      this.#whole.add(path);
      this.redraw();
    }}>Show ${count(value.length - firstCharacters)} more characters</button>`;
  }
}

// quoted returns a string as JSON. It escapes invisible characters, and characters that change the direction of text.
const quoted = (text) => JSON.stringify(text).replace(/[\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);

const isContainer = (v) => v !== null && typeof v === "object" && !isExact(v);
const entries = (v) => Object.entries(v);
const join = (path, key) => (path === "" ? key : `${path}.${key}`);
