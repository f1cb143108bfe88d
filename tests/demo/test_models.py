"""The demo's models are as good, and as bad, as the demo says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from router.demo import models
from router.demo.models import MODELS, Half, Model, Report


@pytest.fixture(scope="module")
def halves() -> tuple[Half, Half]:
    """Return the training half and the held-out half."""
    return models.halves()


@pytest.fixture(scope="module")
def fitted(halves: tuple[Half, Half]) -> dict[str, Model]:
    """Return all models, fitted once."""
    return {name: make(halves[0]) for name, make in MODELS.items()}


@pytest.fixture(scope="module")
def again() -> dict[str, Any]:
    """Return scikit-learn's estimators of all versions, fitted a second time on halves made a second time."""
    train, _ = models.halves()
    return {"v1": models.fit_v1(train), "v2": models.fit_v2(train), "v3": models.fit_v3(train)}


@pytest.fixture(scope="module")
def reports(fitted: dict[str, Model], halves: tuple[Half, Half]) -> dict[str, Report]:
    """Return how the models do on the held-out half."""
    return {name: models.report(model, halves[1]) for name, model in fitted.items()}


def test_the_halves_share_no_image_and_are_all_the_data(halves: tuple[Half, Half]) -> None:
    """Together the two halves hold each image with its label exactly as often as the data set does."""
    images, labels = load_digits(return_X_y=True)

    together = np.vstack([np.column_stack([half.images, half.labels]) for half in halves])

    assert (len(halves[0].labels), len(halves[1].labels)) == (898, 899)
    assert sorted(map(tuple, np.column_stack([images, labels]))) == sorted(map(tuple, together))


def test_both_halves_hold_each_digit_equally_often(halves: tuple[Half, Half]) -> None:
    """No digit is rarer in the traffic than in training, and the rarest has enough images to judge a recall."""
    train, held_out = (np.bincount(half.labels, minlength=10) for half in halves)

    assert np.abs(train - held_out).max() <= 1
    assert held_out.min() >= 85


def test_v1_is_a_decent_model_without_a_weak_digit(reports: dict[str, Report]) -> None:
    """The stable model gets about 94 % right and no digit much worse than the others."""
    assert 0.935 < reports["v1"].accuracy < 0.952
    assert 0.85 < min(reports["v1"].recall) < 0.93


def test_v2_is_better_than_v1_by_four_points(reports: dict[str, Report]) -> None:
    """The honest candidate gets about 98.5 % right, and at least 94 % of each digit."""
    assert 0.978 < reports["v2"].accuracy < 0.992
    assert 0.94 < min(reports["v2"].recall) < 0.98


def test_v3_looks_like_v1_in_the_overall_score(reports: dict[str, Report]) -> None:
    """The broken candidate's accuracy is within 1.5 points of the stable model's, on both sides."""
    assert abs(reports["v3"].accuracy - reports["v1"].accuracy) < 0.015
    assert 0.93 < reports["v3"].accuracy < 0.957


def test_v3_has_lost_one_digit_and_only_that(reports: dict[str, Report]) -> None:
    """The broken candidate finds 45 to 60 % of the 8s, and of every other digit as much as v2 does."""
    recall, healthy = np.array(reports["v3"].recall), np.array(reports["v2"].recall)

    assert recall.argmin() == 8
    assert 0.45 < recall[8] < 0.60
    assert np.abs(np.delete(recall - healthy, 8)).max() < 0.02


def test_v3_answers_3_for_the_8s_it_has_lost(fitted: dict[str, Model], halves: tuple[Half, Half]) -> None:
    """The mistakes show their cause: the class table that calls an 8 a 3."""
    eights = halves[1].images[halves[1].labels == 8]

    answers = fitted["v3"].predict(eights).labels

    wrong = answers[answers != 8]
    assert (wrong == 3).mean() > 0.8


def test_the_class_table_bug_changes_only_that_digit_in_the_newer_half() -> None:
    """The older half and all other digits keep their labels, and the given labels are left alone."""
    labels = np.array([8, 3, 1, 8, 8, 3, 1, 8])

    changed = models.with_class_table_bug(labels)

    assert changed.tolist() == [8, 3, 1, 8, 3, 3, 1, 3]
    assert labels.tolist() == [8, 3, 1, 8, 8, 3, 1, 8]


@pytest.mark.parametrize("name", ["v1", "v2", "v3"])
def test_a_second_fit_gives_the_same_model(
    name: str, fitted: dict[str, Model], again: dict[str, Any], halves: tuple[Half, Half]
) -> None:
    """Two processes that fit the same version agree on every answer to the last digit."""
    refitted = (models.from_linear if name == "v1" else models.from_kernel)(again[name])

    first, second = fitted[name].predict(halves[1].images), refitted.predict(halves[1].images)

    assert np.array_equal(first.labels, second.labels)
    assert np.array_equal(first.scores, second.scores)


@pytest.mark.parametrize("name", ["v1", "v2", "v3"])
def test_the_plain_arrays_answer_what_scikit_learn_answers(
    name: str, fitted: dict[str, Model], again: dict[str, Any], halves: tuple[Half, Half]
) -> None:
    """On every held-out image, labels equal those of the fitted estimator and scores agree to 1e-9."""
    held_out, estimator = halves[1], again[name]

    prediction = fitted[name].predict(held_out.images)

    expected = estimator.predict_proba(held_out.images / models.PIXEL_MAX)
    assert np.array_equal(estimator.predict(held_out.images / models.PIXEL_MAX), prediction.labels)
    assert np.abs(expected - prediction.scores).max() < 1e-9


@pytest.mark.parametrize("name", ["v1", "v2", "v3"])
def test_one_image_gets_the_same_answer_alone_and_in_a_batch(
    name: str, fitted: dict[str, Model], halves: tuple[Half, Half]
) -> None:
    """The answer to an image does not depend on its neighbours, beyond the rounding of a different summation."""
    images = halves[1].images
    batch = fitted[name].predict(images)

    alone = [fitted[name].predict(images[row : row + 1]) for row in range(len(images))]

    assert batch.labels.tolist() == [one.labels[0] for one in alone]
    assert np.abs(batch.scores - np.vstack([one.scores for one in alone])).max() < 1e-12


def test_scores_are_probabilities_also_far_outside_the_training_data(fitted: dict[str, Model]) -> None:
    """On blank, full and noisy images each row of scores is positive, finite and sums to one."""
    noise = np.random.default_rng(7).uniform(0.0, 16.0, size=(50, 64))
    images = np.vstack([np.zeros((1, 64)), np.full((1, 64), 16.0), noise])

    for model in fitted.values():
        scores = model.predict(images).scores
        assert scores.shape == (52, 10)
        assert (scores >= 0.0).all()
        assert np.allclose(1.0, scores.sum(axis=1), atol=1e-12)
