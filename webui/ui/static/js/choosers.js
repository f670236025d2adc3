/** The model and preset choosers, and the drawer with the settings of this chat. */

import { post } from './api.js';
import { byId, el, icon, iconButton, size } from './dom.js';
import { openMenu, tell } from './overlay.js';
import { modelNamed, onChange, refresh, state, watchModels } from './store.js';

/** @typedef {import('./chat.js').ChatView} ChatView */

const STATES = /** @type {Record<string, string>} */ ({ loaded: 'loaded', loading: 'loading…', failed: 'failed' });

/** @param {ChatView} view @param {(name: string) => void} openTab */
export function setUpChoosers(view, openTab) {
  const modelButton = byId('choose-model');
  const presetButton = byId('choose-preset');

  const draw = () => {
    const name = view.chat.model || state.defaults.model;
    const model = modelNamed(name);
    const loader = model?.loaders.find((l) => l.name === (view.chat.loader || model.loader));
    /** @type {HTMLElement} */ (modelButton.querySelector('.value')).textContent = name || 'No model';
    /** @type {HTMLElement} */ (modelButton.querySelector('small')).textContent = (model?.loaders.length ?? 0) > 1 ? loader?.title ?? '' : '';
    modelButton.classList.toggle('missing', Boolean(name) && state.models.length > 0 && !model);
    modelButton.title = modelButton.classList.contains('missing') ? `${name} is not in the models folder any more.` : name ? `Model: ${name}${loader ? `, ${loader.title}` : ''}` : 'Choose a model';
    const preset = view.chat.preset || state.defaults.preset;
    /** @type {HTMLElement} */ (presetButton.querySelector('.value')).textContent = preset || 'No preset';
    presetButton.title = preset ? `Preset: ${preset}` : 'Choose a preset';
  };

  const choose = async (/** @type {string} */ model, /** @type {string} */ loader) => {
    await view.change({ model, loader });
    try {
      await post('/ui/models/load', { model, ...(loader && { loader }) });
      const known = modelNamed(model);
      if (known && known.state !== 'loaded') known.state = 'loading';
      watchModels();
      await refresh();
    } catch (error) { tell(error); }
  };

  modelButton.addEventListener('click', () => {
    const current = view.chat.model || state.defaults.model;
    /** @type {import('./overlay.js').MenuItem[]} */ const items = [];
    for (const model of state.models) {
      const usable = model.loaders.filter((l) => l.available);
      const chosen = model.name === current;
      const using = (chosen && view.chat.loader) || model.loader;
      items.push({
        label: model.name, checked: chosen, disabled: !usable.length, note: STATES[model.state] ?? '',
        detail: [usable.length === 1 ? usable[0].title : '', size(model.size), usable.length ? '' : model.loaders[0]?.reason].filter(Boolean).join(' · '),
        run: () => choose(model.name, ''),
      });
      if (model.loaders.length > 1) {
        for (const loader of model.loaders) {
          items.push({
            label: loader.title, indent: true, checked: chosen && loader.name === using, disabled: !loader.available,
            detail: loader.available ? '' : loader.reason, run: () => choose(model.name, loader.name),
          });
        }
      }
    }
    if (!items.length) items.push({ label: 'No models found', heading: true });
    items.push({ label: 'Manage models…', icon: 'model', run: () => openTab('Model') });
    openMenu(modelButton, 'Model', items, 'wide');
  });

  presetButton.addEventListener('click', () => {
    const current = view.chat.preset || state.defaults.preset;
    const own = state.presets.filter((p) => p.own);
    const item = (/** @type {{name: string, description: string}} */ p) => ({ label: p.name, detail: p.description, checked: p.name === current, run: () => view.change({ preset: p.name }) });
    openMenu(presetButton, 'Preset', [
      ...(own.length ? [{ label: 'Yours', heading: true }, ...own.map(item), { label: 'Shipped', heading: true }] : []),
      ...state.presets.filter((p) => !p.own).map(item),
      { label: 'All parameters…', icon: 'sliders', run: () => openTab('Parameters') },
    ], 'wide');
  });

  for (const what of ['open', 'chat']) view.addEventListener(what, draw);
  for (const what of ['models', 'presets']) onChange(what, draw);
  setUpDrawer(view, openTab);
}

/** System prompt, start of the reply, and the values changed by hand. @param {ChatView} view @param {(name: string) => void} openTab */
function setUpDrawer(view, openTab) {
  const drawer = byId('drawer');
  const button = byId('open-drawer');
  const fields = /** @type {const} */ (['system', 'prefix']);

  const show = (/** @type {boolean} */ open) => {
    drawer.hidden = !open;
    button.setAttribute('aria-expanded', String(open));
    if (open) byId('system').focus();
  };
  button.addEventListener('click', () => show(drawer.hidden));
  drawer.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') { event.stopPropagation(); show(false); button.focus(); }
  });
  byId('all-parameters').addEventListener('click', () => openTab('Parameters'));

  for (const name of fields) {
    const box = /** @type {HTMLTextAreaElement} */ (byId(name));
    box.addEventListener('change', () => view.change({ [name]: box.value }));
    box.addEventListener('input', () => fit(box));
  }

  const draw = () => {
    const { settings } = view.chat;
    for (const name of fields) {
      const box = /** @type {HTMLTextAreaElement} */ (byId(name));
      if (document.activeElement !== box) box.value = view.chat[name] ?? '';
      if (!drawer.hidden) fit(box);
    }
    const changed = Object.entries(settings ?? {});
    byId('chips').replaceChildren(...changed.map(([name, value]) => el('li', {},
      el('span', {}, el('b', { text: name }), ` ${typeof value === 'object' ? JSON.stringify(value) : value}`),
      iconButton('close', `Take back ${name}`, () => view.change({ settings: Object.fromEntries(changed.filter(([other]) => other !== name)) })))));
    byId('quick-label').textContent = changed.length ? 'Changed values' : 'No changed values: the preset decides.';
    const count = changed.length + Number(Boolean(view.chat.system)) + Number(Boolean(view.chat.prefix));
    const badge = /** @type {HTMLElement} */ (button.querySelector('.badge'));
    badge.hidden = count === 0;
    badge.textContent = String(count);
    drawQuick(view);
  };
  for (const what of ['open', 'chat']) view.addEventListener(what, draw);
  onChange('models', () => drawQuick(view));
}

/** @param {HTMLTextAreaElement} box */
function fit(box) {
  box.style.height = 'auto';
  box.style.height = `${Math.min(box.scrollHeight + 2, innerHeight * 0.3)}px`;
}

/** A few settings as numbers to type; the server says which. @param {ChatView} view */
function drawQuick(view) {
  const place = byId('quick');
  if (place.childElementCount !== state.quick.length) {
    place.replaceChildren(...state.quick.map((setting) => {
      const { name, help, step, min, max } = setting;
      const input = el('input', { type: 'number', name, step: step ?? 'any', min, max, placeholder: 'from preset' });
      input.addEventListener('change', () => {
        const { [name]: _, ...rest } = view.chat.settings ?? {};
        view.change({ settings: input.value === '' || !input.checkValidity() ? rest : { ...rest, [name]: Number(input.value) } });
      });
      return el('label', { title: help }, el('span', { text: name }), input);
    }));
  }
  for (const input of place.querySelectorAll('input')) {
    if (input !== document.activeElement) input.value = String(view.chat.settings?.[input.name] ?? '');
  }
}

/** The banner line for sentences from the start. */
export function setUpNotices() {
  const key = 'patchbay.dismissed';
  const seen = () => { try { return /** @type {string[]} */ (JSON.parse(sessionStorage.getItem(key) ?? '[]')); } catch { return []; } };
  const draw = () => {
    const gone = seen();
    byId('notices').replaceChildren(...state.notices.filter((text) => !gone.includes(text)).map((text) => {
      const box = el('div', { class: 'notice', role: 'status' }, icon('info'), el('span', { text }), iconButton('close', 'Dismiss', () => {
        try { sessionStorage.setItem(key, JSON.stringify([...seen(), text])); } catch { /* dismissed until the next reload */ }
        box.remove();
      }));
      return box;
    }));
  };
  onChange('notices', draw);
}
