/** The column of messages: a window of the history that grows upwards, and sticks to the bottom only for who is there. */

import { byId } from './dom.js';
import { MessageView } from './message.js';

/** @typedef {import('./api.js').Message} Message @typedef {import('./message.js').Act} Act */

const NEAR = 48; // pixels from the end that still count as being there

export class Messages {
  /** @param {Act} act @param {() => Promise<void>} loadOlder */
  constructor(act, loadOlder) {
    this.act = act;
    this.column = byId('messages');
    this.scroller = byId('scroller');
    this.latest = byId('latest');
    /** @type {Map<string, MessageView>} in the order of the chat */ this.views = new Map();
    this.older = 0;
    this.sticking = true;
    this.height = 0;
    this.loading = false;
    /** @type {Set<MessageView>} */ this.waiting = new Set();
    this.frame = 0;
    let at = 0;
    this.scroller.addEventListener('scroll', () => {
      const top = this.scroller.scrollTop;
      if (top < at - 1 && !this.nearEnd()) this.stick(false);
      else if (this.nearEnd()) this.stick(true);
      at = top;
    }, { passive: true });
    new ResizeObserver(() => { if (this.sticking) this.toEnd(); }).observe(byId('column'));
    new ResizeObserver(() => { if (this.sticking) this.toEnd(); }).observe(this.scroller);
    this.watch = new IntersectionObserver(async (entries) => {
      if (!entries.at(-1)?.isIntersecting || !this.older || this.loading) return;
      this.loading = true;
      try { await loadOlder(); } catch { /* asked for again with the next scroll */ } finally { this.loading = false; }
      this.again();
    }, { root: this.scroller, rootMargin: '900px 0px 0px 0px' });
    this.latest.addEventListener('click', () => { this.stick(true); this.toEnd(); });
  }

  nearEnd() {
    const s = this.scroller;
    return s.scrollHeight - s.scrollTop - s.clientHeight < NEAR;
  }

  /** @param {boolean} on */
  stick(on) {
    this.sticking = on;
    this.latest.hidden = on;
  }

  toEnd() { this.scroller.scrollTop = this.scroller.scrollHeight; }

  get last() { return [...this.views.values()].at(-1); }

  /** Shows these messages and nothing else; views that stay are kept. @param {Message[]} messages @param {number} older */
  set(messages, older) {
    this.older = older;
    const views = new Map();
    for (const message of messages) {
      const kept = this.views.get(message.id);
      if (kept && kept.message.status === message.status && message.status !== 'streaming' && same(kept.answer.html, message.blocks)) kept.update(message);
      else if (kept) kept.show(message);
      views.set(message.id, kept ?? new MessageView(message, this.act));
    }
    this.views = views;
    this.column.replaceChildren(...[...views.values()].map((v) => v.element));
    this.markLast();
    this.again();
  }

  /** Puts older messages above, without moving what is read. @param {Message[]} messages @param {number} older */
  prepend(messages, older) {
    const made = messages.filter((m) => !this.views.has(m.id)).map((m) => new MessageView(m, this.act));
    this.older = older;
    const first = /** @type {HTMLElement|null} */ (this.column.firstElementChild);
    const before = first ? first.getBoundingClientRect().top : 0;
    this.column.prepend(...made.map((v) => v.element));
    if (first) this.scroller.scrollTop += first.getBoundingClientRect().top - before;
    this.views = new Map([...made.map((v) => /** @type {[string, MessageView]} */ ([v.message.id, v])), ...this.views]);
  }

  /**
   * Adds new messages below their parents (what hung there before goes), or renews the ones that are shown.
   * @param {Message[]} messages
   */
  put(messages) {
    for (const message of messages) {
      const view = this.views.get(message.id);
      if (view) { view.show(message); continue; }
      this.cutAfter(message.parent);
      const made = new MessageView(message, this.act);
      this.views.set(message.id, made);
      this.column.append(made.element);
    }
    this.markLast();
  }

  /** Takes away all that stands below a message ("" = everything). @param {string} parent */
  cutAfter(parent) {
    if (parent && !this.views.has(parent)) return;
    let below = parent === '';
    for (const [id, view] of this.views) {
      if (below) { view.element.remove(); this.views.delete(id); }
      if (id === parent) below = true;
    }
  }

  markLast() {
    const last = this.last;
    for (const view of this.views.values()) view.setLast(view === last);
  }

  /** Lets the observer look at the top again: its element may have stayed in view. */
  again() {
    const older = byId('older');
    older.textContent = this.older ? 'Reading older messages…' : '';
    older.hidden = !this.older;
    this.watch.unobserve(older);
    if (this.older) this.watch.observe(older);
  }

  /** Draws a view with the next frame. @param {MessageView} view */
  soon(view) {
    this.waiting.add(view);
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      for (const one of this.waiting) one.draw();
      this.waiting.clear();
    });
  }
}

/** @param {string[]} a @param {string[]} b */
const same = (a, b) => a.length === b.length && a.every((text, i) => text === b[i]);
