"""How often the intervals of evaluation cover a truth that is known."""
