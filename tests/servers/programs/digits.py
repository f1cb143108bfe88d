"""Fit two versions of a classifier of scikit-learn's digits and save them: `python digits.py joblib|mlflow FOLDER`.

Runs in the venv of a model server, since a saved model is of the scikit-learn that saved it. A tree fitted until every
row is right says of each row what it was fitted with: so every test knows beforehand what each version must answer.
v2 is v1 with a planted fault: it takes every 8 for a 3.
"""

import sys
from pathlib import Path

from sklearn.datasets import load_digits
from sklearn.tree import DecisionTreeClassifier


def save(model: DecisionTreeClassifier, form: str, folder: Path) -> None:
    """Write FOLDER/model.joblib, or all that MLflow wants into FOLDER."""
    if form == "joblib":
        import joblib

        folder.mkdir(parents=True, exist_ok=True)
        joblib.dump(model, folder / "model.joblib")
    else:
        import mlflow.sklearn

        mlflow.sklearn.save_model(model, folder, skops_trusted_types=["sklearn.tree._tree.Tree"])


def main() -> None:
    """Write FOLDER/v1 and FOLDER/v2."""
    form, folder = sys.argv[1:]
    images, digits = load_digits(return_X_y=True)
    for version, labels in (("v1", digits), ("v2", [3 if digit == 8 else digit for digit in digits])):
        save(DecisionTreeClassifier(random_state=0).fit(images, labels), form, Path(folder) / version)


if __name__ == "__main__":
    main()
