"""Doors for the users of other libraries; each needs the library, and nothing else imports it."""
