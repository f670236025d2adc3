/** A list of server-rendered blocks in the page. Only what changed is touched; finished blocks stay as they are. */

import { copyText, el, flash, iconButton } from './dom.js';
import { typeset, typesetLater } from './math.js';

const CLOSING = /^(?:<\/[a-z0-9]+>\s*)+$/;

/** Plain text of an HTML fragment without tags. @param {string} html */
function unescape(html) {
  if (!html.includes('&')) return html;
  const box = document.createElement('textarea');
  box.innerHTML = html;
  return box.value;
}

/** @param {string} html @returns {HTMLDivElement} */
const block = (html) => {
  const node = el('div', { class: 'block', dir: 'auto' });
  node.innerHTML = html;
  return node;
};

/** Gives code its head line (language, copy). @param {HTMLElement} root */
export function furnish(root) {
  for (const pre of /** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll('pre'))) {
    if (pre.dataset.furnished) continue;
    pre.dataset.furnished = '1';
    pre.tabIndex = 0;
    pre.dir = 'ltr';
    const code = pre.querySelector('code');
    const language = pre.parentElement?.dataset.lang ?? '';
    pre.setAttribute('role', 'region');
    pre.setAttribute('aria-label', language ? `Code, ${language}` : 'Code');
    const copy = iconButton('copy', 'Copy the code', () => copyText((code ?? pre).textContent ?? '').then(() => flash(copy, 'copy')));
    pre.before(el('div', { class: 'code-head', dir: 'ltr' }, el('span', { text: language }), copy));
  }
}

export class Blocks {
  /** @param {HTMLElement} root the element that holds the blocks */
  constructor(root) {
    this.root = root;
    /** @type {string[]} */ this.html = [];
    /** @type {Map<number, {text: string, depth: number}|null>} what can be appended at which depth, or null: parse again */
    this.dirty = new Map();
    /** @type {number|undefined} */ this.cut = undefined;
  }

  /** Shows these blocks and nothing else. @param {string[]} blocks */
  set(blocks) {
    this.html = [...blocks];
    this.dirty.clear();
    this.root.replaceChildren(...blocks.map(block));
    furnish(this.root);
    typesetLater(this.root);
  }

  /**
   * Takes a change in; nothing is drawn before {@link draw}.
   * @param {[number, number, string][]} edits [block, characters kept, new rest] @param {number} [cut] blocks that stay
   */
  apply(edits, cut) {
    if (cut !== undefined && cut < this.html.length) {
      this.html.length = cut;
      for (const i of this.dirty.keys()) if (i >= cut) this.dirty.delete(i);
      this.cut = Math.min(this.cut ?? cut, cut);
    }
    for (const [i, keep, tail] of edits) {
      const old = this.html[i] ?? '';
      this.html[i] = old.slice(0, keep) + tail;
      const rest = old.slice(keep);
      const pending = this.dirty.get(i);
      let grown = null;
      if (pending !== null && rest && CLOSING.test(rest) && tail.endsWith(rest)) {
        const text = tail.slice(0, -rest.length);
        const depth = rest.split('</').length - 1;
        if (!text.includes('<') && (!pending || pending.depth === depth)) grown = { text: (pending?.text ?? '') + text, depth };
      }
      this.dirty.set(i, grown);
    }
  }

  /** True when something waits to be drawn. */
  get waiting() { return this.dirty.size > 0 || this.cut !== undefined; }

  /** Draws what changed. */
  draw() {
    const nodes = this.root.children;
    if (this.cut !== undefined) while (nodes.length > this.cut) nodes[nodes.length - 1].remove();
    this.cut = undefined;
    for (const [i, grown] of this.dirty) {
      const node = /** @type {HTMLElement|undefined} */ (nodes[i]);
      if (!node) {
        const made = block(this.html[i]);
        this.root.append(made);
        furnish(made);
        typeset(made);
      } else if (grown === null || !this.grow(node, grown)) {
        node.innerHTML = this.html[i];
        furnish(node);
        typeset(node);
      }
    }
    this.dirty.clear();
  }

  /**
   * Appends text inside the last element, `depth` levels down, without parsing the block again.
   * @param {HTMLElement} node @param {{text: string, depth: number}} grown escaped text @returns {boolean} false when it cannot
   */
  grow(node, grown) {
    /** @type {Element|null} */ let at = node;
    for (let i = 0; i < grown.depth && at; i += 1) {
      at = at.lastElementChild;
      if (at?.classList.contains('math')) return false;
    }
    if (!at || at === node) return false;
    const text = unescape(grown.text);
    if (at.lastChild instanceof Text) at.lastChild.appendData(text);
    else at.append(text);
    return true;
  }
}
