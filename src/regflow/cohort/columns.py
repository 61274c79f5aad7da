"""The columns of a sample sheet, by kind."""

from regflow.core.json_schema import Schema


def define_samples_schema(kind: str = "volumes") -> Schema:
    """Return the JSON schema of one row of the sample sheet of a kind."""
    if kind == "rasters":
        from regflow.cohort.rasters.columns import define_samples_schema as of_rasters

        return of_rasters()
    from regflow.cohort.volumes.columns import define_samples_schema as of_volumes

    return of_volumes()
