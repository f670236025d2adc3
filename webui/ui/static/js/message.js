/** One message: its element, its marks, its actions. What an action does is decided by the chat. */

import { Blocks } from './blocks.js';
import { el, icon, iconButton, short } from './dom.js';

/** @typedef {import('./api.js').Message} Message */

/**
 * @typedef {'copy'|'edit'|'regenerate'|'continue'|'branch'|'delete'|'details'|'previous'|'next'|'retry'} Action
 * @typedef {(action: Action, view: MessageView, button: HTMLElement) => void} Act
 */

/** @param {number} seconds since 1970 */
const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });

export class MessageView {
  /** @param {Message} message @param {Act} act */
  constructor(message, act) {
    this.act = act;
    this.message = message;
    this.isLast = false;
    /** @type {number} when the thought began, in this page */ this.thoughtSince = 0;
    this.thoughtSeconds = 0;
    this.element = el('article', { class: `message ${message.role}`, tabindex: -1 });
    this.thoughtBox = el('details', { class: 'pb-thought', hidden: true }, el('summary', {}, icon('right'), el('span', { text: 'Thought' })));
    this.thoughtBody = el('div', { class: 'blocks written' });
    this.thoughtBox.append(this.thoughtBody);
    this.body = el('div', { class: 'body blocks written' });
    this.marks = el('div', { class: 'marks' });
    this.bar = el('div', { class: 'pb-actions', role: 'group' });
    this.element.append(this.thoughtBox, this.body, this.marks, this.bar);
    this.answer = new Blocks(this.body);
    this.thought = new Blocks(this.thoughtBody);
    this.show(message);
  }

  get streaming() { return this.message.status === 'streaming'; }

  /** Shows a whole message. @param {Message} message */
  show(message) {
    this.answer.set(message.blocks ?? []);
    this.thought.set(message.thought ?? []);
    this.update(message);
  }

  /** Takes in everything but the text. @param {Partial<Message>} message */
  update(message) {
    this.message = { ...this.message, ...message };
    const { role, id, status, created } = this.message;
    this.element.dataset.id = id;
    this.element.dataset.status = status;
    this.element.setAttribute('aria-label', `${role === 'user' ? 'You' : this.message.model || 'Reply'}${created ? `, ${clock(created)}` : ''}`);
    this.element.toggleAttribute('aria-busy', this.streaming);
    if (this.streaming) this.element.setAttribute('aria-busy', 'true');
    this.labelThought();
    this.drawMarks();
    this.drawActions();
  }

  /** Takes in a change of the live reply. @param {import('./follow.js').Change} change */
  take(change) {
    if (change.b) this.answer.set(change.b);
    if (change.hb) this.thought.set(change.hb);
    if (change.o) this.answer.apply(change.o, change.c);
    if (change.h) this.thought.apply(change.h, change.o ? undefined : change.c);
    if ((change.h || change.hb?.length) && !this.thoughtSince) this.thoughtSince = performance.now();
    if ((change.o?.length || change.b?.length) && this.thoughtSince && !this.thoughtSeconds) this.thoughtSeconds = (performance.now() - this.thoughtSince) / 1000;
    if (change.h || change.hb || change.o) this.labelThought();
  }

  /** Draws what the changes left to draw. */
  draw() {
    if (this.answer.waiting) this.answer.draw();
    if (this.thought.waiting) this.thought.draw();
  }

  labelThought() {
    const any = this.thought.html.length > 0;
    if (this.thoughtBox.hidden !== !any) this.thoughtBox.hidden = !any;
    if (!any) return;
    const thinking = this.streaming && this.answer.html.length === 0;
    const seconds = this.message.details?.thought_seconds ?? this.thoughtSeconds;
    const text = thinking ? 'Thinking…' : seconds ? `Thought for ${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s` : 'Thought';
    const label = /** @type {HTMLElement} */ (this.thoughtBox.querySelector('summary span'));
    if (label.textContent !== text) label.textContent = text;
    this.thoughtBox.classList.toggle('thinking', thinking);
  }

  drawMarks() {
    const { status, error, hint, role, details } = this.message;
    /** @type {(Node|string)[]} */ const marks = [];
    const button = (/** @type {string} */ text, /** @type {Action} */ action) =>
      el('button', { type: 'button', class: 'mark-button', text, onclick: (/** @type {MouseEvent} */ e) => this.act(action, this, /** @type {HTMLElement} */ (e.currentTarget)) });
    if (status === 'interrupted') marks.push(el('p', { class: 'mark warn' }, icon('warn'), el('span', { text: 'This reply was interrupted. What it said so far is kept.' }), button('Continue', 'continue')));
    if (status === 'failed') {
      marks.push(el('div', { class: 'mark error' }, icon('warn'),
        el('span', {}, el('strong', { text: error || 'The reply failed.' }), hint ? el('small', { text: hint }) : null), button('Retry', 'retry')));
    }
    if (status === 'stopped') marks.push(el('p', { class: 'mark quiet' }, el('span', { text: 'Stopped' })));
    if (status === 'done' && details?.reason === 'length') marks.push(el('p', { class: 'mark quiet' }, el('span', { text: 'The reply reached its longest length.' }), button('Continue', 'continue')));
    if (role === 'assistant' && details?.dropped?.length) marks.push(el('p', { class: 'mark quiet', text: `${details.dropped.length} older ${details.dropped.length === 1 ? 'message' : 'messages'} did not fit into the context.` }));
    for (const note of details?.notes ?? []) marks.push(el('p', { class: 'mark quiet', text: note }));
    this.marks.replaceChildren(...marks);
  }

  drawActions() {
    const { role, versions, index, details, model } = this.message;
    const name = role === 'user' ? 'your message' : 'the reply';
    this.bar.setAttribute('aria-label', `Actions for ${name}`);
    const focused = this.bar.contains(document.activeElement) ? /** @type {HTMLElement} */ (document.activeElement).dataset.action : '';
    /** @type {Node[]} */ const parts = [];
    /** @param {string} image @param {string} label @param {Action} action @param {Record<string, any>} [more] */
    const add = (image, label, action, more = {}) => {
      parts.push(iconButton(image, label, (event) => this.act(action, this, /** @type {HTMLElement} */ (event.currentTarget)), { 'data-action': action, ...more }));
    };
    if ((versions?.length ?? 0) > 1) {
      add('left', 'Previous version', 'previous', { disabled: index === 0 });
      parts.push(el('span', { class: 'version', 'aria-label': `Version ${index + 1} of ${versions.length}`, role: 'img', text: `${index + 1}/${versions.length}` }));
      add('right', 'Next version', 'next', { disabled: index === versions.length - 1 });
    }
    if (!this.streaming) {
      add('copy', 'Copy', 'copy');
      add('edit', 'Edit', 'edit');
      if (role === 'assistant') add('again', 'Regenerate', 'regenerate');
      if (role === 'assistant' && this.isLast) add('continue', 'Continue', 'continue');
      add('branch', 'Branch into a new chat', 'branch');
      add('trash', 'Delete', 'delete');
      if (role === 'assistant') add('info', 'Details', 'details', { 'aria-haspopup': 'dialog', 'aria-expanded': 'false' });
      const speed = details?.tokens_per_second;
      if (role === 'assistant') parts.push(el('span', { class: 'made', text: [model, speed ? `${short(speed)} tokens/s` : ''].filter(Boolean).join(' · ') }));
    }
    this.bar.replaceChildren(...parts);
    if (focused) /** @type {HTMLElement|null} */ (this.bar.querySelector(`[data-action="${focused}"]`))?.focus();
  }

  /** @param {boolean} last */
  setLast(last) {
    if (last === this.isLast) return;
    this.isLast = last;
    this.element.classList.toggle('last', last);
    this.drawActions();
  }
}
