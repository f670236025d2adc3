"""``python -m webui``: what ``start.py`` hands over to once the environment stands."""

from __future__ import annotations

import sys

from webui.cli import main

sys.exit(main())
