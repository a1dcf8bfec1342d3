"""One scene: data, victim, probe, and the stages that judge it."""
