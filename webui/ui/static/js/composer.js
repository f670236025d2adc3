/** The box one writes in: grows with its text, keeps drafts per chat, sends, stops; and the line of work above it. */

import { announce, byId, focus, short } from './dom.js';
import { tell, toast } from './overlay.js';
import { modelNamed, onChange } from './store.js';

/** @typedef {import('./chat.js').ChatView} ChatView */

const draftKey = (/** @type {string} */ chat) => `patchbay.draft.${chat || 'new'}`;

/** @param {ChatView} view */
export function setUpComposer(view) {
  const form = byId('composer');
  const box = /** @type {HTMLTextAreaElement} */ (byId('text'));
  const send = /** @type {HTMLButtonElement} */ (byId('send'));
  const stop = byId('stop');
  let chat = view.chat.id;
  let composing = false;

  const fit = () => {
    box.style.height = 'auto';
    box.style.height = `${Math.min(box.scrollHeight, Math.max(120, innerHeight * 0.4))}px`;
    send.classList.toggle('ready', box.value.trim() !== '');
  };
  const keep = () => {
    try {
      if (box.value) localStorage.setItem(draftKey(chat), box.value);
      else localStorage.removeItem(draftKey(chat));
    } catch { /* no storage: the draft lasts as long as the page */ }
  };
  const recall = () => {
    try { box.value = localStorage.getItem(draftKey(chat)) ?? ''; } catch { box.value = ''; }
    fit();
  };

  const submit = async () => {
    const text = box.value;
    if (!text.trim()) return;
    if (view.replyId) { toast('The reply is still being written.', { hint: 'Stop it first (Esc), or wait; your text stays here.' }); return; }
    box.value = '';
    keep();
    fit();
    const from = chat;
    try {
      await view.send(text);
    } catch (error) {
      if (chat === from || from === '') { box.value = box.value ? `${text}\n${box.value}` : text; fit(); keep(); }
      if (/** @type {any} */ (error).code === 'offline') toast('Your message is not sent yet.', { hint: 'Send it again when Patchbay is back.' });
      tell(error);
    }
  };

  form.addEventListener('submit', (event) => { event.preventDefault(); submit(); });
  form.addEventListener('click', (event) => { if (event.target === form) box.focus(); });
  box.addEventListener('input', () => { keep(); fit(); });
  box.addEventListener('compositionstart', () => { composing = true; });
  box.addEventListener('compositionend', () => { setTimeout(() => { composing = false; }, 0); });
  box.addEventListener('keydown', (event) => {
    if (event.key === 'PageUp' || event.key === 'PageDown') {
      event.preventDefault();
      view.messages.scroller.scrollBy({ top: (event.key === 'PageUp' ? -0.85 : 0.85) * view.messages.scroller.clientHeight });
    }
    if (event.key === 'Enter' && !event.shiftKey && !event.altKey && !composing && !event.isComposing) { event.preventDefault(); submit(); }
  });
  stop.addEventListener('click', () => { view.stop(); focus(box); });
  addEventListener('resize', fit);

  view.addEventListener('open', () => {
    if (view.chat.id === chat) return;
    chat = view.chat.id;
    recall();
  });
  view.addEventListener('born', () => { chat = view.chat.id; keep(); });
  view.addEventListener('reply', () => {
    const running = view.replyId !== '';
    const hadFocus = document.activeElement === stop;
    stop.hidden = !running;
    send.hidden = running;
    if (hadFocus && !running) focus(box);
  });
  recall();
  setUpWork(view);
  setUpMeter(view);

  return {
    /** Writes a text into the box and sends it. @param {string} text */
    say(text) { box.value = text; submit(); },
    focus: () => box.focus(),
    isEmpty: () => box.value === '',
  };
}

/** The progress line: a place in the queue, a model that loads, a prompt that is read. @param {ChatView} view */
function setUpWork(view) {
  const bar = /** @type {HTMLProgressElement} */ (byId('work-bar'));
  let said = '';
  const draw = () => {
    const p = view.progress;
    const model = modelNamed(view.chat.model);
    let text = '';
    let number = '';
    let fraction = -1;
    if (p?.stage === 'queued') text = p.done > 0 ? `In the queue, place ${p.done}` : 'In the queue';
    else if (p?.stage === 'prompt') {
      text = p.text || 'Reading the prompt';
      if (p.total) { fraction = p.done / p.total; number = `${short(p.done)} of ${short(p.total)} tokens`; }
    } else if (p?.stage === 'loading' || model?.state === 'loading') {
      text = p?.stage === 'loading' && p.text ? p.text : model?.text || `Loading ${model?.name ?? 'the model'}`;
      fraction = p?.stage === 'loading' && p.total ? p.done / p.total : model?.progress ?? -1;
      if (fraction > 0) number = `${Math.round(fraction * 100)} %`;
    } else if (model?.state === 'failed' && model.error && !view.replyId) text = `${model.name} could not be loaded. ${model.error}`;
    byId('work').hidden = !text;
    byId('work').classList.toggle('failed', !p && model?.state === 'failed');
    bar.hidden = !p && model?.state === 'failed';
    byId('work-text').textContent = text;
    byId('work-number').textContent = number;
    if (fraction >= 0) bar.value = Math.min(1, fraction);
    else bar.removeAttribute('value');
    const stage = p?.stage ?? (model?.state === 'loading' ? 'loading' : '');
    if (stage && stage !== said) announce(text);
    said = stage;
  };
  for (const what of ['progress', 'open', 'chat', 'reply']) view.addEventListener(what, draw);
  onChange('models', draw);
}

/** How much of the context is used. @param {ChatView} view */
function setUpMeter(view) {
  const meter = byId('meter');
  const draw = () => {
    const m = view.meter;
    meter.hidden = !m || !m.context;
    if (!m || !m.context) return;
    const part = m.used / m.context;
    const full = part >= 0.9;
    const words = `${m.estimated ? 'About ' : ''}${m.used.toLocaleString('en')} of ${m.context.toLocaleString('en')} tokens of context are used.${full ? ' Older messages will be left out soon.' : ''}`;
    meter.classList.toggle('full', full);
    meter.title = words;
    meter.setAttribute('aria-label', words);
    meter.querySelector('.fill')?.setAttribute('stroke-dasharray', `${Math.min(100, part * 100).toFixed(1)} 100`);
    /** @type {HTMLElement} */ (meter.querySelector('span')).textContent = `${m.estimated ? '≈ ' : ''}${short(m.used)} / ${short(m.context)}`;
  };
  meter.addEventListener('click', () => toast(meter.title));
  for (const what of ['meter', 'open']) view.addEventListener(what, draw);
}
