"""Audit files: TOML, or flags, to what is asked. All faults are told at once."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import tomli_w

from experiments.plan.audit.spec import Audit, AuditSpec
from experiments.plan.fields import ABSENT, Faults, expand, plain, settable
from experiments.plan.methods import named_methods
from poisonbench.errors import ConfigError
from poisonbench.registry import nearest

DEFAULTS = {"estimator": "gas", "detector": "rehearsed"}
OWN = ("name", "alarm", "model_args", *DEFAULTS)
WAY = "an audit needs model, checkpoints, train, points and trusted"


def parse_audit(raw: Mapping[str, Any]) -> Audit:
    """Turns the content of an audit file into an audit.

    Raises:
        ConfigError: with every fault, one per line.
    """
    faults = Faults()
    fields = settable(AuditSpec)
    known = [*OWN, *fields]
    for key in raw:
        if key not in known:
            allowed = ", ".join(known)
            faults.add(key, f"unknown key{nearest(key, known)} (allowed: {allowed})")
    table = {key: value for key, value in raw.items() if key in fields}
    specs = list(expand(AuditSpec, table, "audit", faults))
    if len(specs) > 1:
        faults.add(
            "audit", "is of one model: give no key a list but checkpoints and lr"
        )
    applied = []
    for part in DEFAULTS:
        applied += named_methods(raw.get(part, DEFAULTS[part]), part, faults)
    alarm = raw.get("alarm", 0.05)
    if isinstance(alarm, bool) or not isinstance(alarm, int | float):
        faults.add("alarm", f"must be a number in (0, 1), got {alarm!r}")
    arguments = raw.get("model_args")
    if arguments is not None and not isinstance(arguments, dict):
        faults.add("model_args", f"is a table, got {arguments!r}")
    if faults.lines:
        lacking = any(line.endswith(ABSENT) for line in faults.lines)
        raise ConfigError(faults.lines, WAY if lacking else "")
    spec = specs[0]
    if arguments is not None:
        spec = replace(spec, model_args=tuple(arguments.items()))
    try:
        return Audit(str(raw.get("name", "audit")), spec, tuple(applied), alarm)
    except ValueError as error:
        raise ConfigError([str(error)]) from error


def resolved_audit(audit: Audit) -> str:
    """Returns the audit as TOML with every default written out."""
    document: dict[str, Any] = {"name": audit.name, "alarm": audit.alarm}
    for key, value in plain(audit.spec).items():
        if value != "none":
            document[key] = list(value) if isinstance(value, tuple) else value
    if audit.spec.model_args is not None:
        document["model_args"] = dict(audit.spec.model_args)
    for part in DEFAULTS:
        tables = []
        for applied in audit.applied:
            if applied.part == part:
                method = applied.method
                tables.append({"name": method.name, **plain(method.value)})
        document[part] = tables
    return tomli_w.dumps(document)
