"""A run as one page of HTML that needs no network: its contents by pure functions, then Jinja2."""
