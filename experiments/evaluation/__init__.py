"""From logs to rows: metrics of detectors, filters, mitigations and certifiers."""
