"""From the log of a stage to a row of metrics: one function per kind of stage."""
