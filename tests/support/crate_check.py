"""What roc-validator says of a crate, without a network."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import requests
import rocrate

CONTEXT = "https://w3id.org/ro/crate/1.1/context"
TERMS_OF_1_1 = {
    "ComputationalWorkflow": "https://bioschemas.org/ComputationalWorkflow",
    "FormalParameter": "https://bioschemas.org/FormalParameter",
    "input": "https://bioschemas.org/ComputationalWorkflow#input",
    "output": "https://bioschemas.org/ComputationalWorkflow#output",
}
"""What RO-Crate 1.1 calls otherwise than the later context that comes with the package rocrate."""


def read_context() -> dict[str, Any]:
    """Return the JSON-LD context of RO-Crate 1.1, as far as crates of runs use it."""
    packaged = Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld"
    content = json.loads(packaged.read_text(encoding="utf-8"))
    return {"@context": {**content["@context"], **TERMS_OF_1_1}}


def find_issues(crate: Path, monkeypatch: Any, severity: str = "REQUIRED") -> list[str]:
    """Return what a crate's folder lacks to be a Workflow Run Crate."""
    from rocrate_validator import services
    from rocrate_validator.utils.http import HttpRequester

    def answer(_requester: Any, url: str, **_options: Any) -> requests.Response:
        found = requests.Response()
        found.status_code, found.headers["Content-Type"] = 200, "application/ld+json"
        assert url == CONTEXT, f"{url}: no other context is known without a network"
        found._content = json.dumps(read_context()).encode()
        return found

    monkeypatch.setenv("ROCRATE_VALIDATOR_AUTO_WARM", "0")
    monkeypatch.setattr(HttpRequester, "get", answer, raising=False)
    with TemporaryDirectory() as cache:
        settings = services.ValidationSettings(
            rocrate_uri=str(crate),
            profile_identifier="workflow-run-crate",
            requirement_severity=severity,
            offline=True,
            cache_path=Path(cache, "http"),
        )
        result = services.validate(settings)
        return [f"{issue.severity.name}: {issue.message}" for issue in result.get_issues()]
