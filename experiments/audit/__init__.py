"""Audits: a finished model judged point by point, into logs like those of a grid."""
