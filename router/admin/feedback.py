"""The endpoint that takes true labels."""

from router.admin import schemas as s
from router.admin.services import Services
from router.control.feedback import TrueLabel


class FeedbackEndpoints:
    """`/v1/feedback`."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def take(self, body: s.LabelBodies) -> s.FeedbackView:
        """Join true labels to the predictions of both variants, for the gates accuracy, recall, precision and f1."""
        now_s = self._services.now_s()
        labels = [
            TrueLabel(one.request_id, one.label, now_s if one.observed_at is None else one.observed_at) for one in body
        ]
        found = await self._services.control.feedback.take(labels)
        return s.FeedbackView(**{result.value: number for result, number in found.items()})
