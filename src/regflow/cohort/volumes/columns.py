"""The columns of a sample sheet of volumes."""

from regflow.cohort.table import REQUIRED_COLUMNS
from regflow.core.json_schema import Schema, define_table_row
from regflow.core.names import SAFE

_COLUMNS = {
    "sample": "id of the row: letters, digits, '.', '_', '+' and '-'; names the results",
    "moving": "the moving image: NIfTI, NRRD, MetaImage, MGH, AFNI, DICOM, or example:NAME",
    "fixed": "an atlas of the configuration by name, or a file; empty: the configuration's 'fixed'",
    "modality": "T1w, T2w, FLAIR, CT, PET ...; for the report",
    "moving_mask": "mask on the moving image's grid; not zero, of fractions at least 0.5, where it may steer",
    "moving_labels": "label map on the moving image's grid; follows the transform",
    "moving_landmarks": "landmarks of the moving image: CSV (name,x,y,z in LPS mm), .fcsv or .mrk.json",
    "fixed_mask": "mask on the fixed image's grid; empty: the atlas's",
    "fixed_labels": "label map on the fixed image's grid; empty: the atlas's",
    "fixed_landmarks": "landmarks of the fixed image, partners of the moving ones; empty: the atlas's",
    "companions": "other volumes that follow the same transform: 'flair=path;pet=path'",
    "volume": "which volume of a 4-D or multi-frame moving file, from 0, or the number or UID of a DICOM "
    "series",
    "group": "any word; the report compares groups",
    "session": "any word; the report shows it",
    "series": "rows with the same name here are also aligned to one another, below series/NAME",
    "weight": "in a template of the cohort, above 0; empty: 1",
    "subject": "whose image it is: in a template of the cohort, images of one subject first make their own",
    "truth": "a known transform from fixed to moving points, to measure the true error with",
}


def define_samples_schema() -> Schema:
    """Return the JSON schema of one row of the sample sheet."""
    patterns = {
        "sample": SAFE,
        "volume": r"^[0-9.]+$",
        "weight": r"^(?!0*\.?0*$)[0-9]*\.?[0-9]+$",
        "subject": SAFE,
        "series": SAFE,
        "companions": r"^[^=;]+=[^=;]+(;[^=;]+=[^=;]+)*;?$",
    }
    return define_table_row("one row of a sample sheet", _COLUMNS, REQUIRED_COLUMNS, patterns)
