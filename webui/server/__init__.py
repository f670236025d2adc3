"""The web server: the site with its gate and login, and the process that serves it."""

from webui.server.run import serve
from webui.server.site import create_site

__all__ = ["create_site", "serve"]
