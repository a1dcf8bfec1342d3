"""The kinds of stages, and what the log of each must hold."""

STAGES = {
    **{
        kind: kind
        for kind in ("scene", "trace", "influence", "detect", "filter", "certify", "mitigate")
    },
    "failed": "failure",
}


PARTS = (
    "estimator",
    "detector",
    "filter",
    "certifier",
    "mitigation",
)  # what a stage's configuration names


JUDGED = {  # stages judged by their scene -> what they name
    "influence": "estimator",
    "detect": "detector",
    "filter": "filter",
    "certify": "certifier",
    "mitigate": "mitigation",
}


NEEDED = {
    "scene": (
        *("probe/group", "probe/predicted", "probe/wanted"),
        *("targets/predicted", "targets/wanted", "clean/correct", "clean/size"),
        *("poison/role", "poison/origin"),
    ),
    "detect": ("score", "flag"),
    "filter": ("score",),
    "certify": (
        "label",
        "radius",
        "truth",
        "targets/label",
        "targets/radius",
        "targets/y",
        "targets/wanted",
    ),
    "mitigate": (
        "removed",
        "test/before",
        "test/after",
        "targets/before",
        "targets/after",
        "targets/wanted",
    ),
    "failure": ("reason",),
}


VECTORS = (  # data sets of one length
    "probe/group probe/predicted probe/wanted",
    "targets/predicted targets/before targets/after targets/label targets/radius targets/y targets/wanted",
    "score flag",
    "poison/role poison/origin",
    "removed",
    "test/before test/after",
    "label radius truth",
)
