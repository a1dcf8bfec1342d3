"""The numbers that a log holds in place of words. Needs no torch."""

# roles of a training row, in the ground truth of an attack
CLEAN = 0
POISON = 1
COVER = 2
UNTOLD = 255  # nobody told: of an audit

# groups of a probe point
ATTACKED = 0
MATCHED = 1  # clean control that the victim predicts as a label that the attacker wants
RANDOM = 2  # clean control
CALIBRATION = 3  # clean point that sets the thresholds
JUDGED = 4  # of an audit: nobody told whether it is attacked

# token ids that are no words
PAD = 0  # fills a sentence up to the length of the longest
UNKNOWN = 1  # every word that the vocabulary lacks
