"""What is said of images that each have clusters of their own."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from kmdist.job.image_fits import say_choices
from kmdist.job.progress import Message


@pytest.mark.parametrize(
    ("chosen", "text"),
    [
        ([2, 4, 4, 6], "k by image: 2 to 6, most often 4 (2 of 4 images)"),
        ([2, 4, 4, 2], "k by image: 2 to 4"),
        ([3, 3], "k by image: 3"),
        ([5], "the knee"),
    ],
)
def test_choices_of_k_are_said_once(chosen: list[int], text: str) -> None:
    said: list[Message] = []
    fits: dict[str, Any] = {
        str(place): {"selection": {"k": k, "reason": "the knee"}, "warning": None}
        for place, k in enumerate(chosen)
    }
    say_choices(cast("Any", SimpleNamespace(watch=said.append)), fits)
    assert [one.text for one in said] == [text]


def test_the_one_image_whose_k_is_chosen_is_named_among_others() -> None:
    said: list[Message] = []
    fits: dict[str, Any] = {
        "a.png": {"selection": {"k": 5, "reason": "k = 5 reaches 30 dB"}, "warning": None},
        "b.png": {"selection": None, "warning": "30 dB cannot be reached"},
    }
    say_choices(cast("Any", SimpleNamespace(watch=said.append)), fits)
    texts = ["a.png: k = 5 reaches 30 dB", "b.png: 30 dB cannot be reached"]
    assert [one.text for one in said] == texts
