"""How the Gradio tabs look: the page's own colours and fonts, so that the tabs and the chat are one page.

The colours are the page's custom properties (``webui/ui/static/css/page.css``), which follow light and dark. Layout
is in ``webui/ui/static/css/panels.css``, which the page adds: Gradio rewrites the selectors of what it is given.
"""

from __future__ import annotations

import gradio as gr

_COLOURS = {
    "body_background_fill": "var(--pb-bg)",
    "body_text_color": "var(--pb-text)",
    "body_text_color_subdued": "var(--pb-muted)",
    "background_fill_primary": "var(--pb-bg)",
    "background_fill_secondary": "var(--pb-sunk)",
    "block_background_fill": "transparent",
    "block_border_color": "var(--pb-line)",
    "block_label_text_color": "var(--pb-text)",
    "block_title_text_color": "var(--pb-text)",
    "block_info_text_color": "var(--pb-muted)",
    "border_color_primary": "var(--pb-line)",
    "border_color_accent": "var(--pb-accent)",
    "color_accent": "var(--pb-accent)",
    "color_accent_soft": "var(--pb-accent-soft)",
    "input_background_fill": "var(--pb-sunk)",
    "input_border_color": "var(--pb-line)",
    "input_border_color_focus": "var(--pb-accent)",
    "input_placeholder_color": "var(--pb-muted)",
    "button_primary_background_fill": "var(--pb-accent)",
    "button_primary_background_fill_hover": "var(--pb-accent)",
    "button_primary_text_color": "var(--pb-accent-ink)",
    "button_secondary_background_fill": "var(--pb-sunk)",
    "button_secondary_background_fill_hover": "var(--pb-hover)",
    "button_secondary_text_color": "var(--pb-text)",
    "button_secondary_border_color": "var(--pb-line)",
    "slider_color": "var(--pb-accent)",
    "checkbox_background_color": "var(--pb-bg)",
    "checkbox_background_color_selected": "var(--pb-accent)",
    "checkbox_border_color": "var(--pb-control)",
    "checkbox_border_color_selected": "var(--pb-accent)",
    "checkbox_border_color_focus": "var(--pb-accent)",
    "checkbox_label_background_fill": "var(--pb-sunk)",
    "checkbox_label_background_fill_selected": "var(--pb-accent-soft)",
    "checkbox_label_text_color": "var(--pb-text)",
    "checkbox_label_text_color_selected": "var(--pb-text)",
    "link_text_color": "var(--pb-accent)",
    "link_text_color_hover": "var(--pb-accent)",
    "code_background_fill": "var(--pb-sunk)",
    "table_border_color": "var(--pb-line)",
    "table_even_background_fill": "transparent",
    "table_odd_background_fill": "transparent",
    "panel_background_fill": "transparent",
    "panel_border_color": "var(--pb-line)",
}


def _theme() -> gr.themes.Base:
    theme = gr.themes.Base(
        font=["var(--pb-sans)", "sans-serif"],
        font_mono=["var(--pb-mono)", "monospace"],
        radius_size=gr.themes.sizes.radius_md,
        text_size=gr.themes.sizes.text_sm,
    )
    dark = {f"{name}_dark": value for name, value in _COLOURS.items() if hasattr(theme, f"{name}_dark")}
    return theme.set(**_COLOURS, **dark, block_shadow="none", button_large_radius="9px", button_large_text_weight="500")


THEME = _theme()
