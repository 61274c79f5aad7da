"""The one model of the configuration, from which its JSON schemas come, by kind.

:mod:`regflow.config.reference` writes what people and other tools read of it.
"""

from regflow.core.json_schema import Schema


def define_config_schema(kind: str = "volumes") -> Schema:
    """Return the JSON schema of the configuration of a kind, with a description and default for each key."""
    if kind == "rasters":
        from regflow.config.rasters import define_config_schema as of_rasters

        return of_rasters()
    from regflow.config.volumes import define_config_schema as of_volumes

    return of_volumes()
