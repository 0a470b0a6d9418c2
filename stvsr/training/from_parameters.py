"""Training configurations from a notebook's parameters: flat names in, frozen dataclasses out, one set of defaults.

A notebook's parameters are flat; a configuration has one dataclass per concern (data, optimiser, method). A parameter
belongs to the field of its name, wherever that field is. What a notebook does not name keeps the dataclass's default.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from stvsr.training.batches import DataConfig
from stvsr.training.optimisation import OptimConfig

NESTED = {"data": DataConfig, "optim": OptimConfig}


def fields_of(config_class: type) -> dict[str, object]:
    """Return every name that may be a parameter of a training, with its default."""
    own = dataclasses.fields(config_class)
    defaults = {field.name: field.default for field in own if field.name not in NESTED}
    for nested in (field for field in own if field.name in NESTED):
        default: Any = nested.default  # of the class in NESTED
        defaults |= dataclasses.asdict(default)
    return defaults


def build_config(config_class: type, parameters: Mapping[str, object]) -> Any:
    """Return a training's configuration from a notebook's variables, `globals()`; other names are ignored.

    Raises:
        InputError: a value is not allowed.
    """
    given: dict[str, Any] = {}
    for field in dataclasses.fields(config_class):
        if field.name in NESTED:
            default: Any = field.default  # of the class in NESTED
            given[field.name] = dataclasses.replace(default, **_named(NESTED[field.name], parameters))
    own = {name: value for name, value in _named(config_class, parameters).items() if name not in NESTED}
    return config_class(**given, **own)


def _named(config_class: type, parameters: Mapping[str, object]) -> dict[str, object]:
    """Return the parameters that are fields of a class; lists become tuples."""
    names = {field.name for field in dataclasses.fields(config_class)} & set(parameters)
    return {name: tuple(value) if isinstance(value := parameters[name], list) else value for name in names}
