"""Every command on a run with many training rows and many points."""
