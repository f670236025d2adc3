/* Light or dark, before the first paint. A plain script (no module), so that the page never flashes.
   The choice is "system", "light" or "dark"; the last one that was seen is kept in this browser. */
(function () {
  'use strict';
  var dark = matchMedia('(prefers-color-scheme: dark)');

  /** @param {string} key @returns {string} */
  function stored(key) {
    try { return localStorage.getItem(key) || ''; } catch (e) { return ''; }
  }

  /** @param {string} key @param {string} value */
  function store(key, value) {
    try { localStorage.setItem(key, value); } catch (e) { /* private mode: the choice lasts as long as the page */ }
  }

  var choice = stored('patchbay.theme') || 'system';

  function paint() {
    var isDark = choice === 'dark' || (choice === 'system' && dark.matches);
    document.documentElement.dataset.theme = isDark ? 'dark' : 'light';
    document.documentElement.style.colorScheme = isDark ? 'dark' : 'light';
    if (document.body) document.body.classList.toggle('dark', isDark); // the panels read this class
  }

  /** @type {any} */ (window).patchbayTheme = {
    get choice() { return choice; },
    /** @param {string} value */
    choose: function (value) {
      choice = value;
      store('patchbay.theme', value);
      paint();
    },
    /** What the server holds: taken over when it changed since this browser last saw it. @param {string} value */
    seen: function (value) {
      if (!value || value === stored('patchbay.theme.server')) return;
      store('patchbay.theme.server', value);
      this.choose(value);
    },
    paint: paint,
  };
  dark.addEventListener('change', paint);
  document.addEventListener('DOMContentLoaded', paint);
  paint();
})();
