"""The comparison of pages leaves out times and nothing else."""

import pytest
from undated_pages import strip_times

from regflow.reporting.shared.story import format_duration

PAGE = """<ul class="facts"><li>onto <b>mni</b></li><li>time <b>{time}</b></li></ul>
<div class="time" role="img" aria-label="Time by stage: refine {time}, apply {time}">
<span style="width:{share}%;background:#123456" title="refine: {time}"></span></div>
<td class="n" data-sort="{seconds}">{time}</td><td class="n" data-sort="0.91">0.910</td>
<p class="lead">Median seconds of each stage. {stored}</p>
<p class="text soft">Scatter 0.020 px in 4 s windows</p>
<i style="width:40.0%"></i>
<pre>recorded: '{recorded}'
command: {command}
python: 3.11.7
</pre><pre>seed: 0
jobs:
  each_stage: {each}
refine:
  methods: [greedy]
</pre>
"""


def fill(seconds: float, **other: object) -> str:
    run = {"share": 12.5, "stored": "3.1 MB", "recorded": "2026-01-01", "command": "run", "each": "false"}
    return PAGE.format(**{"time": format_duration(seconds), "seconds": seconds, **run, **other})


@pytest.mark.parametrize("seconds", [0.0, 3.25, 12.0, 754.0])
def test_pages_of_the_same_content_are_equal_whenever_they_were_made(seconds):
    other = {"share": 99.0, "stored": "3.2 MB", "recorded": "2027-02-02", "command": "again", "each": "true"}
    assert strip_times(fill(seconds, **other)) == strip_times(fill(1.5))


@pytest.mark.parametrize(
    ("found", "changed"),
    [
        ("mni", "icbm"),
        ("0.910", "0.911"),
        ('data-sort="0.91"', 'data-sort="0.92"'),
        ("0.020 px", "0.021 px"),
        ("4 s windows", "5 s windows"),
        ("refine:", "apply:"),
        ("#123456", "#654321"),
        ("width:40.0%", "width:41.0%"),
        ("3.11.7", "3.12.0"),
        ("seed: 0", "seed: 1"),
        ("greedy", "none"),
        ("Median seconds", "Mean seconds"),
    ],
)
def test_nothing_else_is_left_out(found, changed):
    text = fill(1.5)
    assert found in text
    assert strip_times(text.replace(found, changed)) != strip_times(text)
