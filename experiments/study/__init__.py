"""The study of detectors: what each question tells, apart from the tables of a grid."""
