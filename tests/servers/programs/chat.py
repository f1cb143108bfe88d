"""A chat server of LitServe with its OpenAI spec: `python chat.py PORT VERSION`. Runs in LitServe's venv.

It says back, word by word, what it was told last. v2 has a planted fault: it says "three" for "eight".
"""

import sys
from collections.abc import Iterator
from typing import Any

import litserve


class Parrot(litserve.LitAPI):  # type: ignore[misc] # has no types where mypy runs
    """Answers with the words of the last message."""

    version = ""

    def setup(self, device: str) -> None:
        """There is nothing to load."""

    def predict(self, asked: Any) -> Iterator[str]:  # noqa: ANN401 - what LitServe makes of the body
        """Yield one word after the other."""
        text = asked.messages[-1].content
        for word in text.replace("eight", "three").split() if self.version == "v2" else text.split():
            yield f"{word} "


def main() -> None:
    """Serve until ended."""
    api = Parrot(spec=litserve.OpenAISpec())
    api.version = sys.argv[2]
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
