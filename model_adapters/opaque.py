"""Any protocol: requests and answers pass unread; a Pair holds status, latency, size and digest."""

from dataclasses import replace

from model_adapters.addressing import check_no_names
from router.core.errors import UnreadableError
from router.core.inference import InferenceRequest, Prediction, RawAnswer, RawRequest
from router.core.traffic import Variant


class Opaque:
    """Reads nothing, so it works with every server; the Route itself must say whether it is `mirror_safe`."""

    name = "opaque"
    mirror_safe = False
    comparator = "digest"

    def read_request(self, raw: RawRequest) -> InferenceRequest:
        """Return a request of which nothing is known."""
        return InferenceRequest()

    def read_answer(self, raw: RawAnswer) -> Prediction | None:
        """Return None: there is no prediction that could be read."""
        return None

    def check_variant(self, variant: Variant) -> None:
        """Raise ConfigError when the variant asks for a `model` or `version`; called once at start."""
        check_no_names(variant, self.name, "model", "version")

    def retarget(self, raw: RawRequest, variant: Variant) -> RawRequest:
        """Return `raw` with the variant's `path`, its query kept. Raises UnreadableError for a `model`."""
        if variant.model is not None or variant.version is not None:
            raise UnreadableError("the opaque adapter cannot write a model into a request")
        if variant.path is None:
            return raw
        _, mark, query = raw.target.partition("?")
        return replace(raw, target=variant.path + mark + query)
