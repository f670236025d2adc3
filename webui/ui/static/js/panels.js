/** The tabs. Chat is ours; the others are panels that live in one <gradio-app>, put into the page when first needed. */

import { get, isLost } from './api.js';
import { byId, focus } from './dom.js';
import { changed, refresh, state } from './store.js';

const NAMES = ['Chat', 'Parameters', 'Model', 'Extensions', 'Settings'];
/** @type {Promise<void>|null} */
let mounting = null;
let mounted = false;
let current = 'Chat';

/** The name of the tab on show. */
export const currentTab = () => current;

/** @param {() => boolean} done @param {number} limit in milliseconds */
async function until(done, limit) {
  const end = performance.now() + limit;
  while (!done()) {
    if (performance.now() > end) return false;
    await new Promise((resolve) => setTimeout(resolve, 60));
  }
  return true;
}

/** The buttons of the panels' own (hidden) tab bar. @returns {HTMLElement[]} */
const panelTabs = () => [.../** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll('#panels > .tab-wrapper button[role="tab"], #panels button[role="tab"]'))];

/** Asks whether the panels can be had by now. */
async function ask() {
  if (isLost()) return;
  try { state.panels = (await get('/ui/state')).panels; } catch { /* asked again */ }
}

async function mount() {
  while (!state.panels.ready) {
    if (state.panels.reason) throw new Error(state.panels.reason);
    await new Promise((resolve) => setTimeout(resolve, 700));
    await ask();
  }
  const page = /** @type {any} */ (window);
  page.__gradio_mode__ = 'app';
  page.gradio_config = await get('/config');
  const style = (/** @type {string} */ href) => Object.assign(document.createElement('link'), { rel: 'stylesheet', href });
  document.head.prepend(style(state.panels.style));
  document.head.append(style('/static/css/panels.css'));
  const app = document.createElement('gradio-app');
  for (const [name, value] of [['embed', 'true'], ['eager', 'true'], ['control_page_title', 'false']]) app.setAttribute(name, value);
  byId('panel-host').append(app);
  const script = document.createElement('script');
  script.type = 'module';
  script.src = state.panels.script;
  document.head.append(script);
  mounted = await until(() => panelTabs().length >= NAMES.length - 1, 20000);
  page.patchbayTheme.paint();
  if (!mounted) throw new Error('The panels could not be started. Reload the page to try again.');
  byId('panel-wait').hidden = true;
}

/** Puts the panels into the page, once. @returns {Promise<void>} */
export function mountPanels() {
  mounting ??= mount().catch((error) => {
    mounting = null;
    byId('panel-wait').textContent = error.message;
    throw error;
  });
  return mounting;
}

/** @param {string} name one of the five tabs */
export async function openTab(name) {
  if (!NAMES.includes(name)) return;
  const before = current;
  current = name;
  for (const other of NAMES) {
    const tab = byId(`tab-${other}`);
    tab.setAttribute('aria-selected', String(other === name));
    tab.tabIndex = other === name ? 0 : -1;
  }
  const host = byId('panel-host');
  const chat = name === 'Chat';
  byId('chat').hidden = !chat;
  host.hidden = chat;
  if (chat) {
    if (before !== 'Chat') back().catch(() => {});
    return;
  }
  host.setAttribute('aria-labelledby', `tab-${name}`);
  const old = mounted; // fresh panels read everything by themselves
  try { await mountPanels(); } catch { return; }
  if (current !== name) return;
  const tabs = panelTabs();
  (tabs.find((t) => t.textContent?.trim() === name) ?? tabs[NAMES.indexOf(name) - 1])?.click();
  if (old) document.getElementById(`refresh-${name}`)?.click();
}

/** @type {() => Promise<void>} */
let back = refresh;

/** @param {() => boolean} busy true while nothing heavy may happen @param {() => Promise<void>} returned to the chat, which a panel may have changed */
export function setUpTabs(busy, returned) {
  const list = byId('tabs');
  back = returned;
  byId('panel-host').addEventListener('change', (event) => {
    const box = /** @type {HTMLInputElement} */ (event.target);
    if (!box.closest('#theme')) return;
    /** @type {any} */ (window).patchbayTheme.choose(box.value);
    changed('theme');
  });
  for (const name of NAMES) byId(`tab-${name}`).addEventListener('click', () => openTab(name));
  list.addEventListener('keydown', (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -NAMES.length, End: NAMES.length }[event.key];
    if (!step) return;
    event.preventDefault();
    const to = Math.abs(step) > 1 ? (step < 0 ? 0 : NAMES.length - 1) : (NAMES.indexOf(current) + step + NAMES.length) % NAMES.length;
    focus(byId(`tab-${NAMES[to]}`));
    openTab(NAMES[to]);
  });
  let asked = 0;
  const early = async () => {
    if (mounting || asked > 20) return;
    if (!busy() && !document.hidden && !state.panels.ready && (asked += 1)) await ask();
    if (busy() || document.hidden || !state.panels.ready) { setTimeout(early, 2000); return; }
    (window.requestIdleCallback ?? setTimeout)(() => { mountPanels().catch(() => {}); });
  };
  setTimeout(early, 3000);
}
