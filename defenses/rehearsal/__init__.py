"""Rehearsal: which questions tell, found out on generic poison that a defender plants itself."""
