"""What a user is told when a server does not give what lies at an address."""

import re

_REFUSALS = (
    (
        r"access.?denied|access key|credentials|AWS_SECRET|signature|forbidden|response code: 40[13]",
        "the server refuses access ({reason}); give it credentials (of S3: AWS_PROFILE, or "
        "AWS_NO_SIGN_REQUEST=YES for public data)",
    ),
    (
        r"response code: 404|(key|bucket) does not exist",
        "there is nothing at this address ({reason}); correct it",
    ),
    (
        r"CURL error|response code|connect|timed out",
        "the server does not answer ({reason}); check address and network",
    ),
)
"""What GDAL or botocore say of an address, as a pattern, and what a user is told; the first that fits."""


def explain_refusal(reason: str) -> str | None:
    """Return what to tell a user of an address, from what a program said of it; None for other words."""
    for pattern, told in _REFUSALS:
        if re.search(pattern, reason, re.IGNORECASE):
            return told.format(reason=reason)
    return None
