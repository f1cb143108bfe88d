"""MLServer (Open Inference Protocol v2) with two versions of a scikit-learn model in one server."""

import json
from pathlib import Path

import pytest

from loadtests.processes import free_ports
from tests.e2e.harness import Turnouts
from tests.e2e.wire import request
from tests.servers.digits import questions, save_models
from tests.servers.installed import venv_of
from tests.servers.journey import Question, Server, make_the_journey
from tests.servers.processes import serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

MODEL = "/v2/models/digits"


def body_of(number: int, rows: list[list[float]]) -> bytes:
    """Return a request for classes and probabilities; with an id, since MLServer draws one where there is none."""
    tensor = {"name": "pixels", "shape": [len(rows), len(rows[0])], "datatype": "FP64", "data": rows}
    outputs = [{"name": "predict"}, {"name": "predict_proba"}]
    return json.dumps({"id": f"r-{number}", "inputs": [tensor], "outputs": outputs}).encode()


def ask(number: int, question: Question) -> bytes:
    """Return what a client sends, who names no version."""
    headers = {**dict(question.headers), "x-user-id": f"user-{number}"}
    return request("POST", f"{MODEL}/infer", question.body, headers)


async def test_mlserver_as_shadow_and_canary(turnouts: Turnouts, tmp_path: Path) -> None:
    """One server has both versions; each variant's `version` is written into the path."""
    venv = venv_of("mlserver")
    save_models(venv / "bin/python", "joblib", tmp_path)
    http, grpc, metrics = free_ports(3)
    listeners = {"http_port": http, "grpc_port": grpc, "metrics_port": metrics}
    (tmp_path / "settings.json").write_text(json.dumps({"host": "127.0.0.1", "parallel_workers": 0, **listeners}))
    for version in ("v1", "v2"):
        model = {
            "name": "digits",
            "implementation": "mlserver_sklearn.SKLearnModel",
            "parameters": {"uri": "./model.joblib", "version": version},
        }
        (tmp_path / version / "model-settings.json").write_text(json.dumps(model))

    async with serving([venv / "bin/mlserver", "start", "."], tmp_path, http, "/v2/health/ready"):
        place = {"url": f"http://127.0.0.1:{http}", "health": "/v2/health/ready"}
        server = Server(
            {
                "match": {"path_prefix": MODEL},
                "adapter": "open_inference",
                "variants": {version: {**place, "version": version} for version in ("v1", "v2")},
            },
            ask,
            lambda version, asked: (
                http,
                request("POST", f"{MODEL}/versions/{version}/infer", asked.body, dict(asked.headers)),
            ),
            b'{"inputs":[{"name":"pixels","shape":[1,3],"datatype":"FP64","data":[1,2,3]}]}',
        )
        await make_the_journey(turnouts, server, questions(body_of, lambda digits: ",".join(map(str, digits))))
