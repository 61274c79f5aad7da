"""NIfTI headers with values that none may hold."""

import gzip

import numpy as np
import pytest
from fuzzed_files import sound_files

from regflow.core.errors import InputError
from regflow.core.io.volumes import read_volume

QFAC, FORM_CODES = 76, 252
"""Where a header says how the qform is handed, and which of its forms hold."""


@pytest.mark.parametrize(
    ("offset", "content", "told"),
    [
        (123, b"\x07", "the NIfTI header holds an unknown code"),
        (108, np.array([np.nan], "<f4").tobytes(), "the NIfTI header is damaged"),
        (108, np.array([np.inf], "<f4").tobytes(), "the NIfTI header is damaged"),
        (108, np.array([1e30], "<f4").tobytes(), "ends early"),
        (40, np.array([-5], "<i2").tobytes(), "the NIfTI header"),
        (42, np.array([32767, 32767, 32767], "<i2").tobytes(), "ends early"),
        (70, np.array([77], "<i2").tobytes(), "the NIfTI header"),
        (76, np.array([0], "<f4").tobytes(), "the qform of the header is damaged"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_values_that_no_header_may_hold_are_told(tmp_path, packed, offset, content, told):
    raw = bytearray(sound_files()["volume.nii"])
    raw[offset : offset + len(content)] = content
    if offset == QFAC:
        raw[FORM_CODES : FORM_CODES + 4] = np.array([1, 0], "<i2").tobytes()
    path = tmp_path / ("a.nii.gz" if packed else "a.nii")
    path.write_bytes(gzip.compress(raw) if packed else raw)
    with pytest.raises(InputError) as caught:
        read_volume(path)
    assert told in str(caught.value)
